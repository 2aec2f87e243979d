"""Suppression files as other systems export them, into requests: recognised, read row by row, and recorded."""
