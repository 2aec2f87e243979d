"""Errors of the witness."""


class WitnessError(Exception):
    """Root of what this package raises."""

    reason = "WITNESS_ERROR"


class MemoryUnusable(WitnessError):
    """What was cosigned before is missing, damaged or unwritable.

    Without it a witness could cosign a second history, so it does not start, or does not cosign.
    """

    reason = "MEMORY_UNUSABLE"
