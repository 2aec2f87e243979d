"""A feed's log on disk as the programs build it: it signs, seals, folds and syncs for real; only the time is a test's own."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consent.authority import Authority
from consent.event import (
    DirectiveEvent,
    ErasureEvent,
    Event,
    KeyEpochEvent,
    LinkEvent,
    ReceivedEvent,
    UnlinkEvent,
    parse_event,
)
from consent.eventlog.checkpoint import verify_checkpoint
from consent.eventlog.keys import KeyKind, generate_signing_key
from consent.eventlog.merkle import Frontier, commit, hash_leaf, leaf_data
from consent.eventlog.trust import Trust, TrustedKey
from consent.key_epoch import rekey_clusters
from consent.policy import format_policy, policy_from_mapping
from consent.state import Cluster, fold_event
from consent.state_record import parse_cluster
from consent.tenant_state import EMPTY_TENANT, TenantState, fold_tenant_event
from consent.vocabulary.subject import Rekeyer
from feed.log_store.identity import LogIdentity
from feed.log_store.port import LogStore
from feed.log_store.sqlite import SqliteLog
from feed.ports import FeedHead, IdempotencyKey, StoredEntry, Submission
from feed.sequencer import KeyEpochs, Sequencer, SequencerLimits
from feed.signing.key_store import FeedKeys
from feed.signing.log_signer import LogSigner
from feed.signing.subject_keys import SubjectKeys
from tests.fakes.clock import FakeClock
from tests.fakes.signers import Signers

ORIGIN = "log.example.com/acme"
TENANT = "acme"
#: No test waits for the checkpoint to be signed anew: those that need it call `resign_now`.
LIMITS = SequencerLimits(resign_seconds=3600)
EXAMPLE_POLICY: dict[str, Any] = {
    "purposes": {
        "marketing": {"parents": [], "legal_basis": "consent"},
        "newsletter": {"parents": ["marketing"], "legal_basis": "consent"},
    },
    "regimes": [],
}


def seed(name: str) -> bytes:
    """32 bytes that a name decides."""
    return hashlib.sha256(name.encode()).digest()


def make_keys(name: str = "feed") -> FeedKeys:
    """All keys of a feed, decided by a name, so that failures repeat."""
    return FeedKeys(
        log_key=generate_signing_key(ORIGIN, KeyKind.LOG, seed(f"{name}/log")),
        cosigner_key=generate_signing_key(f"{ORIGIN}/cosigner", KeyKind.COSIGNER, seed(f"{name}/cosigner")),
        subject_key=seed(f"{name}/subject"),
        audit_master=seed(f"{name}/audit"),
        kek=seed(f"{name}/kek"),
    )


KEYS = make_keys()
#: Of as many key epochs as a test begins; the log says which of them have begun.
SUBJECT_KEYS = (KEYS.subject_key, *(seed(f"feed/subject-{epoch}") for epoch in range(1, 4)))
SIGNER = LogSigner(KEYS.log_key, KEYS.cosigner_key)
SIGNERS = Signers(ORIGIN)
TRUST = Trust(
    tenant=TENANT,
    origin=ORIGIN,
    log_keys=(TrustedKey(SIGNER.log_verifier_key),),
    cosigner_keys=(TrustedKey(SIGNER.cosigner_verifier_key),),
    source_keys=SIGNERS.source_keys,
    approver_keys=SIGNERS.approver_keys,
)
IDENTITY = LogIdentity(ORIGIN, TENANT, (SIGNER.log_verifier_key,))


def token_of(name: str) -> bytes:
    """16 bytes that stand for a person's identifier."""
    return seed(name)[:16]


def make_directive(name: str, **fields: Any) -> DirectiveEvent:
    """An opt-out of marketing, or what the fields say."""
    values: dict[str, Any] = {
        "origin": ORIGIN,
        "source": "web",
        "request_id": seed(f"request/{name}")[:16],
        "token": token_of(name),
        "kind": 2,
        "occurred_at_ms": 1_767_000_000_000,
        "purpose": "marketing",
        "proof": 1,
        "assurance": 1,
    }
    return DirectiveEvent(**(values | fields))


def make_link(left: str, right: str, proof: int = 2) -> LinkEvent:
    return LinkEvent(origin=ORIGIN, left=token_of(left), right=token_of(right), proof=proof, occurred_at_ms=1)


def make_unlink(left: str, right: str) -> UnlinkEvent:
    return UnlinkEvent(origin=ORIGIN, left=token_of(left), right=token_of(right), occurred_at_ms=1)


def make_request(name: str, *, key: str | None = None, content: str = "", **fields: Any) -> Submission:
    """RECEIVED and a directive, as intake submits them, under an idempotency key of its own."""
    event = make_directive(name, **fields)
    received = ReceivedEvent(
        origin=ORIGIN, source="web", request_id=event.request_id, received_at_ms=1_767_000_000_000, request_type=1
    )
    idempotency = IdempotencyKey("web", key or f"key-{name}", seed(f"content/{name}/{content}"))
    return SIGNERS.submit((received, event), idempotency, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def make_submission(
    events: Sequence[Event], idempotency: IdempotencyKey | None = None, traceparent: str = ""
) -> Submission:
    """Events as one request, with everything signed."""
    return SIGNERS.submit(events, idempotency, traceparent)


def make_policy(version: int = 1, **changes: Any) -> bytes:
    """A policy document."""
    return format_policy(policy_from_mapping(EXAMPLE_POLICY | {"version": version} | changes))


async def open_store(directory: Path) -> SqliteLog:
    return await SqliteLog.open(directory, IDENTITY, KEYS.kek)


def make_sequencer(store: LogStore, clock: FakeClock, limits: SequencerLimits = LIMITS) -> Sequencer:
    return Sequencer(
        store,
        SIGNER,
        clock,
        origin=ORIGIN,
        subject_keys=SubjectKeys(SUBJECT_KEYS),
        authority=Authority(TRUST),
        limits=limits,
    )


@dataclass(frozen=True)
class OpenLog:
    """A log that runs.

    Attributes:
        store: Its file.
        sequencer: The log itself.
        clock: Its time.
        key_epochs: Begins key epochs.
    """

    store: SqliteLog
    sequencer: Sequencer
    clock: FakeClock
    key_epochs: KeyEpochs


@asynccontextmanager
async def open_log(directory: Path, limits: SequencerLimits = LIMITS) -> AsyncIterator[OpenLog]:
    """Runs a log in a directory."""
    clock = FakeClock()
    store = await open_store(directory)
    try:
        sequencer = make_sequencer(store, clock, limits)
        await sequencer.start()
        try:
            yield OpenLog(store, sequencer, clock, KeyEpochs(sequencer, store, SubjectKeys(SUBJECT_KEYS), ORIGIN))
        finally:
            await sequencer.close()
    finally:
        await store.close()


async def read_all(store: LogStore) -> list[StoredEntry]:
    entries: list[StoredEntry] = []
    while page := await store.read_entries(len(entries) + 1, 1000):
        entries += page
    return entries


async def read_clusters(store: LogStore) -> dict[bytes, Cluster]:
    """The stored state: the cluster of every token."""
    clusters: dict[bytes, Cluster] = {}
    last_token = b""
    async for page in store.read_clusters():
        for row in page:
            cluster = parse_cluster(row.record)
            assert cluster.members[0].token == row.first_token > last_token
            clusters |= dict.fromkeys((member.token for member in cluster.members), cluster)
            last_token = row.first_token
    return clusters


def fold_entries(entries: Sequence[StoredEntry]) -> tuple[dict[bytes, Cluster], TenantState]:
    """What the entries fold to, one by one, as a sidecar or an auditor computes it."""
    clusters: dict[bytes, Cluster] = {}
    tenant = EMPTY_TENANT
    for entry in entries:
        event: Event = parse_event(entry.event_bytes)
        clusters |= fold_event(event, entry.seq, clusters.get, tenant.drop_seqs)
        tenant = fold_tenant_event(tenant, event, entry.seq)
        if isinstance(event, KeyEpochEvent) and event.epoch:
            clusters = rekey_clusters(clusters, Rekeyer(SUBJECT_KEYS[event.epoch]))
    return clusters, tenant


async def verify_everything(store: LogStore) -> list[StoredEntry]:
    """Checks a stored log from its entries alone: seqs, leaves, every node, root, signatures, folded state; returns the entries."""
    head = await store.load_head()
    entries = await read_all(store)
    assert [entry.seq for entry in entries] == list(range(1, head.size + 1))
    frontier = Frontier()
    nodes: dict[tuple[int, int], bytes] = {}
    authority = Authority(TRUST)
    for entry in entries:
        authority.verify(parse_event(entry.event_bytes), entry.event_bytes, entry.attestations, entry.seq)
        leaf_hash = hash_leaf(leaf_data(entry.type_byte, commit(entry.opening, entry.event_bytes)))
        nodes |= {(level, index): node_hash for level, index, node_hash in frontier.append(leaf_hash)}
    assert frontier == head.frontier
    assert await store.read_nodes(list(nodes)) == nodes
    verify_note(FeedHead(frontier, head.checkpoint_note, head.checkpoint_time_ms, head.tenant))
    clusters, tenant = fold_entries(entries)
    assert (await read_clusters(store), head.tenant) == (clusters, tenant)
    assert await store.count_subjects() == len(clusters)
    found = await store.find_clusters(list(clusters))
    assert {token: parse_cluster(record) for token, record in found.items()} == clusters
    return entries


async def verify_erased(store: LogStore) -> None:
    """Checks a stored log of which payloads were erased: every leaf, the root, and that what is left folds to the stored state."""
    head, entries = await store.load_head(), await read_all(store)
    frontier = Frontier()
    named: set[int] = set()
    for entry in entries:
        commitment = entry.commitment or commit(entry.opening, entry.event_bytes)
        frontier.append(hash_leaf(leaf_data(entry.type_byte, commitment)))
        event = parse_event(entry.event_bytes) if entry.event_bytes else None
        named |= set(event.seqs) if isinstance(event, ErasureEvent) else set()
    assert frontier == head.frontier
    assert {entry.seq for entry in entries if not entry.event_bytes} == named
    clusters, tenant = fold_entries([entry for entry in entries if entry.event_bytes])
    assert (await read_clusters(store), head.tenant) == (clusters, tenant)


def verify_note(head: FeedHead) -> None:
    """Checks that the head's checkpoint is signed, for exactly its size and root."""
    verified = verify_checkpoint(head.checkpoint_note, TRUST, None)
    assert (verified.checkpoint.size, verified.checkpoint.root_hash) == (head.size, head.frontier.root_hash())
    assert verified.time_ms == head.checkpoint_time_ms
