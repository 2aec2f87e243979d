"""Heads and disposals as a sidecar signs them, and an outbox that keeps them in memory."""

from collections.abc import Sequence
from dataclasses import replace

from consent.eventlog.journal_head import (
    NO_HEAD,
    DisposalGround,
    HeadKind,
    JournalDisposal,
    JournalHead,
    hash_head,
    sign_disposal,
    sign_head,
)
from consent.eventlog.keys import SigningKey
from sidecar.ports import LoggedPlace

NOW_MS = 1_767_225_600_000


def make_heads(
    key: SigningKey, origin: str, count: int, *, chain: str = "a", after: JournalHead | None = None, salt: int = 0
) -> list[JournalHead]:
    """Heads of one chain, each after the one before; another `salt` makes other ones for the same places."""
    heads: list[JournalHead] = []
    for _ in range(count):
        before = heads[-1] if heads else after
        number = 0 if before is None else before.number + 1
        head = JournalHead(
            sidecar_id=key.name,
            chain_id=chain.encode().ljust(16, b"."),
            number=number,
            kind=HeadKind.PERIODIC,
            at_ms=NOW_MS + number,
            segment=number,
            frame=salt,
            chain_hash=bytes((number % 256,)) * 32,
            decisions=10 * number,
            previous_head_hash=NO_HEAD if before is None else hash_head(before),
        )
        heads.append(sign_head(head, key, origin))
    return heads


def make_disposal(
    key: SigningKey, origin: str, last_segment: int = 2, *, chain: str = "a", first_segment: int = 0
) -> JournalDisposal:
    """The first segments of a chain were disposed of."""
    disposal = JournalDisposal(
        sidecar_id=key.name,
        chain_id=chain.encode().ljust(16, b"."),
        first_segment=first_segment,
        last_segment=last_segment,
        chain_hash=bytes(32),
        decisions=20,
        oldest_ms=NOW_MS,
        newest_ms=NOW_MS + 1,
        ground=DisposalGround.AGE,
        disposed_at_ms=NOW_MS + 2,
    )
    return sign_disposal(disposal, key, origin)


class MemoryHeads:
    """Implements `sidecar.ports.HeadSource` without a file.

    Attributes:
        heads: What is not logged yet.
        places: How far each chain is logged.
    """

    def __init__(self, heads: Sequence[JournalHead] = ()) -> None:
        self.heads = list(heads)
        self.places: dict[bytes, LoggedPlace] = {}

    def add(self, *heads: JournalHead) -> None:
        self.heads += heads

    def pending(self, limit: int) -> list[JournalHead]:
        return self.heads[:limit]

    def confirm(self, heads: Sequence[JournalHead]) -> None:
        confirmed = set(heads)
        self.heads = [head for head in self.heads if head not in confirmed]
        for head in heads:
            self.places[head.chain_id] = LoggedPlace(
                head.number, head.segment, head.kind in {HeadKind.FINAL, HeadKind.RECOVERY}
            )

    def logged(self, chain_id: bytes) -> LoggedPlace | None:
        return self.places.get(chain_id)


def resigned(head: JournalHead, key: SigningKey, origin: str, **changes: object) -> JournalHead:
    """A head with other fields, signed anew."""
    return sign_head(replace(head, **changes), key, origin)  # type: ignore[arg-type]
