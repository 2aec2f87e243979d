"""What is committed by itself: with nothing before it in its batch, and nothing behind."""

from collections.abc import Sequence
from dataclasses import dataclass

from consent.event import Event
from feed.log_store.port import StoredHead
from feed.ports import StoredEntry


@dataclass(frozen=True, slots=True)
class LoneEntry:
    """An entry that was committed by itself.

    Attributes:
        before: The head that it was added to.
        entry: The entry; the last of several.
        after: The head that ends with it: its checkpoint is for exactly that size.
    """

    before: StoredHead
    entry: StoredEntry
    after: StoredHead


@dataclass(frozen=True, slots=True)
class LoneChange:
    """Events whose commit changes more than what they fold to.

    Attributes:
        events: To be logged.
        staged_state_sum: Sum of the staged state, 32 bytes, which takes the place of the one in force; empty for none.
        erased: Entries that lose their payload.
    """

    events: Sequence[Event]
    staged_state_sum: bytes = b""
    erased: Sequence[StoredEntry] = ()
