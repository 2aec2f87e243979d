"""Samples with what proves them: entries of the log with inclusion proofs, journal heads with their signatures."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from auditor.evidence.errors import EvidenceUnreadable
from auditor.evidence.events import type_name_of
from auditor.evidence.model import Cell
from auditor.evidence.tables import format_json
from auditor.findings import Finding
from auditor.log_copy import CopiedEntry
from consent.eventlog.errors import EventLogError
from consent.eventlog.journal_head import parse_head, verify_head
from consent.eventlog.merkle import commit, hash_leaf, leaf_data
from consent.eventlog.proof import verify_inclusion

LOG_SAMPLES: Final = "samples/log-entries.json"
HEAD_SAMPLES: Final = "samples/journal-heads.json"
CHECKPOINT: Final = "samples/checkpoint.txt"


def format_log_samples(
    proven: Mapping[int, tuple[CopiedEntry, tuple[bytes, ...]]], size: int, root_hash: bytes
) -> bytes:
    """Entries with their proofs. The commitment stands for opening and payload, which stay in the log: payloads hold pseudonyms."""
    entries = [
        {
            "seq": seq,
            "type": type_name_of(entry.type_byte),
            "type_byte": entry.type_byte,
            "commitment": (entry.commitment or commit(entry.opening, entry.event_bytes)).hex(),
            "audit_path": [node_hash.hex() for node_hash in audit_path],
        }
        for seq, (entry, audit_path) in proven.items()
    ]
    return format_json({"size": size, "root_hash": root_hash.hex(), "entries": entries})


def format_head_samples(origin: str, heads: list[dict[str, Cell]]) -> bytes:
    """Heads as they were signed, with the key that the log enrolled."""
    return format_json({"origin": origin, "heads": heads})


def verify_samples(folder: Path) -> Iterator[Finding]:
    """Check every proof and signature of the samples again.

    Raises:
        EvidenceUnreadable: A file of samples is missing or of another form.
    """
    log, heads = (_read(folder / name) for name in (LOG_SAMPLES, HEAD_SAMPLES))
    try:
        root_hash = bytes.fromhex(log["root_hash"])
        for entry in log["entries"]:
            leaf_hash = hash_leaf(leaf_data(entry["type_byte"], bytes.fromhex(entry["commitment"])))
            path = [bytes.fromhex(node_hash) for node_hash in entry["audit_path"]]
            try:
                verify_inclusion(leaf_hash, entry["seq"] - 1, log["size"], path, root_hash)
            except EventLogError as error:
                yield Finding(error.reason, "a sampled entry is not in the tree", place=f"seq {entry['seq']}")
        for sampled in heads["heads"]:
            try:
                verify_head(
                    parse_head(bytes.fromhex(sampled["head"])), heads["origin"], bytes.fromhex(sampled["public_key"])
                )
            except EventLogError as error:
                yield Finding(
                    error.reason, "a sampled head is not signed by the enrolled key", place=f"seq {sampled['seq']}"
                )
    except (KeyError, TypeError, ValueError):
        raise EvidenceUnreadable("samples: of a form that is not known here") from None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise EvidenceUnreadable(f"samples: {path.name} cannot be read") from None
