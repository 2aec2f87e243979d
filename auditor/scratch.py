"""What an audit collects and is too much for memory."""

import sqlite3
from typing import Self


class ScratchDatabase:
    """An own temporary database, gone when it is closed.

    Args:
        schema: SQL statements that make its tables.
    """

    def __init__(self, schema: str) -> None:
        # An empty name: SQLite keeps it in memory while it is small, and in a deleted file from then on.
        self._database = sqlite3.connect("")
        self._database.executescript(schema)

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Delete it."""
        self._database.close()
