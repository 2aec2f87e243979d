"""What a verification can find. Each kind has one stable name."""

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Kinds of findings; docs/cli.md and scripts use these names."""

    HEAD_MISSING = "HEAD_MISSING"
    HEAD_UNREADABLE = "HEAD_UNREADABLE"
    CHECKPOINT_REJECTED = "CHECKPOINT_REJECTED"
    BELOW_MINIMUM_SIZE = "BELOW_MINIMUM_SIZE"
    FRONTIER_MISMATCH = "FRONTIER_MISMATCH"
    ROOT_MISMATCH = "ROOT_MISMATCH"
    ENTRIES_BEYOND_HEAD = "ENTRIES_BEYOND_HEAD"
    ENTRIES_MISSING = "ENTRIES_MISSING"
    ENTRIES_UNREADABLE = "ENTRIES_UNREADABLE"
    ENTRY_UNREADABLE = "ENTRY_UNREADABLE"
    EVENT_REFUSED = "EVENT_REFUSED"
    PAYLOAD_MISSING = "PAYLOAD_MISSING"
    LEAF_MISMATCH = "LEAF_MISMATCH"
    NODE_MISMATCH = "NODE_MISMATCH"
    NODES_UNEXPECTED = "NODES_UNEXPECTED"
    TENANT_REFUSED = "TENANT_REFUSED"
    TENANT_MISMATCH = "TENANT_MISMATCH"
    STATE_ROOT_MISMATCH = "STATE_ROOT_MISMATCH"
    STATE_MISMATCH = "STATE_MISMATCH"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it must be.

    Attributes:
        reason: What kind.
        text: What exactly; never an identifier, token or other value of an entry.
        seq: The entry it is about, or the first of them; None where it is about the log as a whole.
    """

    reason: Reason
    text: str
    seq: int | None = None
