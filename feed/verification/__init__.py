"""Offline verification of a whole log: from the stored entries alone to the head that was signed."""
