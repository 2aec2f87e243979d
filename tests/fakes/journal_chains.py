"""A journal's signed heads, made and checked: each is compared with what the files themselves say."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from consent.eventlog.journal_head import (
    NO_HEAD,
    NO_ID,
    HeadKind,
    JournalHead,
    hash_head,
    parse_head,
    verify_head,
)
from consent.eventlog.keys import KeyKind, SigningKey, generate_signing_key
from journal.directory import list_segments
from journal.errors import TornTail
from journal.format import FrameKind, format_segment_name
from journal.reader import SegmentKeys, read_frames
from sidecar.journal.head_outbox import LOGGED_FILE_NAME, HeadOutbox
from sidecar.journal.heads import ChainPlan

HEADS_ORIGIN = "log.example/consents"
SIDECAR_ID = "pod-1"
SIDECAR_KEY: SigningKey = generate_signing_key(SIDECAR_ID, KeyKind.SIDECAR, bytes(range(32)))


def make_plan(directory: Path, **changes: object) -> ChainPlan:
    """A plan whose outbox keeps its file in the journal's directory."""
    fields: dict[str, object] = {"key": SIDECAR_KEY, "origin": HEADS_ORIGIN}
    if "outbox" not in changes:
        fields["outbox"] = HeadOutbox(directory / LOGGED_FILE_NAME)
    return ChainPlan(**(fields | changes))  # type: ignore[arg-type]


@dataclass(slots=True)
class Chain:
    """What a chain's files say.

    Attributes:
        ends: Chain hash, and decisions so far, before each frame and at the end, by segment and frame.
        call_ids: Of each frame of records, with its place.
        heads: That lie in it, its own and others', each with its place.
    """

    ends: dict[tuple[int, int], tuple[bytes, int]] = field(default_factory=dict)
    call_ids: list[tuple[tuple[int, int], bytes]] = field(default_factory=list)
    heads: list[tuple[tuple[int, int], JournalHead]] = field(default_factory=list)


def read_chains(directory: Path, keys: SegmentKeys) -> dict[bytes, Chain]:
    """Read a directory whose segments may end within a frame and are whole otherwise."""
    chains: dict[bytes, Chain] = {}
    for chain_id, sizes in list_segments(directory).items():
        chain, decisions = chains.setdefault(chain_id, Chain()), 0
        for number in sorted(sizes):
            try:
                for frame in read_frames(directory / format_segment_name(chain_id, number), keys):
                    place = (number, frame.frame)
                    if frame.kind == FrameKind.RECORDS:
                        chain.call_ids += [(place, record[1:17]) for record in frame.records]
                    elif frame.kind == FrameKind.HEAD:
                        chain.heads.append((place, parse_head(frame.records[0])))
                    decisions += frame.decisions
                    chain.ends[number, frame.frame + 1] = (frame.chain_hash, decisions)
            except TornTail:
                continue
    return chains


def verify_heads(directory: Path, keys: SegmentKeys) -> dict[bytes, list[JournalHead]]:
    """Check every head against the files, and return them by the chain that they are about, by number.

    Raises:
        AssertionError: One does not say what the files say.
    """
    chains = read_chains(directory, keys)
    about: dict[bytes, list[JournalHead]] = {chain_id: [] for chain_id in chains}
    for chain_id, chain in chains.items():
        for place, head in chain.heads:
            if head.chain_id == chain_id:
                assert (head.segment, head.frame) == place
            else:
                assert head.kind == HeadKind.RECOVERY
            about[head.chain_id].append(head)
    for chain_id, heads in about.items():
        heads.sort(key=lambda head: head.number)
        _verify_one(chains[chain_id], heads)
    return about


def _verify_one(chain: Chain, heads: list[JournalHead]) -> None:
    assert [head.number for head in heads] == list(range(len(heads)))
    before: JournalHead | None = None
    for head in heads:
        verify_head(head, HEADS_ORIGIN, SIDECAR_KEY.verifier_key.public_key)
        assert head.previous_head_hash == (hash_head(before) if before else NO_HEAD)
        place = (head.segment, head.frame)
        if head.frame:
            assert chain.ends[place] == (head.chain_hash, head.decisions)
        since = (before.segment, before.frame) if before else (0, 0)
        ids = [call_id for at, call_id in chain.call_ids if since <= at < place]
        assert (head.first_id, head.last_id) == ((ids[0], ids[-1]) if ids else (NO_ID, NO_ID))
        assert head.kind == HeadKind.RECOVERY or not head.torn_bytes
        assert before is None or before.kind not in (HeadKind.FINAL, HeadKind.RECOVERY)
        before = head


def kinds(heads: Iterable[JournalHead]) -> list[HeadKind]:
    """Why each was made."""
    return [HeadKind(head.kind) for head in heads]


def copy_as_crashed(directory: Path, target: Path) -> None:
    """What a kill leaves: the files as they are, and nobody who holds a lock."""
    shutil.copytree(directory, target)
