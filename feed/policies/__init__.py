"""Policies to start from: the one that is shipped, and one made of the W3C Data Privacy Vocabulary."""
