"""The files of the decision record: their format, reading them back, and what their signed heads prove."""
