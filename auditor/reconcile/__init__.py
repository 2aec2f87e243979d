"""Reconciliation: what was answered, recorded, exported and asked for must be the same decisions."""
