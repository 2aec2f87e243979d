"""What the span receiver of a deployment has written down."""

import json
from pathlib import Path
from typing import Any


def read_spans(path: Path) -> list[dict[str, Any]]:
    """Every span so far, in the order received; a line that is still being written is left out."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def read_check_spans(path: Path) -> list[dict[str, Any]]:
    """Those of decisions: the feed has spans of its own, and so have entries that came into force."""
    return [span for span in read_spans(path) if span["name"].startswith("consent.check")]


def received_ids(path: Path) -> set[str]:
    """The ids of all decisions received: of spans of one, and of the items of batches."""
    ids = set()
    for span in read_check_spans(path):
        carriers = span["events"] if "consent.batch.size" in span["attributes"] else [span]
        ids |= {carrier["attributes"]["consent.decision.id"] for carrier in carriers}
    return ids
