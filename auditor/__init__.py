"""Reads event logs and decision journals: verifies them, explains them, and makes evidence of them."""
