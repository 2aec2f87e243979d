"""Spans of decisions, projected from the decision record, and where they are sent."""
