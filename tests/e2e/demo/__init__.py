"""`make demo`: a person's choice taking effect, shown step by step with the programs as they are."""
