"""Trails: how an answer came about, and how an entry of the log came to be in force."""
