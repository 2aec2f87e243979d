"""Errors of intake alone; those that other parts raise too are in `feed.errors`."""

from feed.errors import SourceNotPermitted


class RecordExists(SourceNotPermitted):
    """An import grants something for a subject of whom something is recorded already. Expected: lists overlap."""

    reason = "RECORD_EXISTS"
