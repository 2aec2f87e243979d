"""The verdict file: one line for each row of the import, and nothing of what stands in it."""

import csv
from typing import TextIO

from feed.intake.imports.rows import Verdict

COLUMNS = ("line", "verdict", "reason", "column")


class VerdictWriter:
    """Writes verdicts as CSV.

    Args:
        stream: Opened with `newline=""`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.writer(stream)
        self._writer.writerow(COLUMNS)

    def write(self, verdict: Verdict) -> None:
        """Write one line."""
        self._writer.writerow((verdict.line, verdict.kind, verdict.reason, verdict.column))
