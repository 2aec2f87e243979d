"""A log in which much happens, and sidecars that answer from it and record what they answered: what a replay is tried on.

The checks are made by the real `Checker`; what it answers from is the log's own folded state, or a real cache.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auditor.folder import JOURNALS_DIRECTORY_NAME, REPLAY_KEYS_FILE_NAME
from auditor.journals import KEYS_FILE_NAME, format_key_name
from consent.event import (
    DirectiveEvent,
    ErasureEvent,
    Event,
    EventType,
    FactEvent,
    LinkEvent,
    OverrideEvent,
    PolicyEvent,
    RestrictionEvent,
    UnlinkEvent,
)
from consent.eventlog.merkle import commit
from consent.key_epoch import current_epoch
from consent.key_ring import KeyRing, seal_key_ring
from consent.policy import Policy, format_policy, policy_from_mapping
from consent.state import Cluster
from consent.vocabulary.directive import AgeBand, Facts, GrantedBy, Kind
from consent.vocabulary.subject import Tokeniser
from feed.erasure import _Scan
from feed.ports import StoredEntry
from feed.signing.subject_keys import SubjectKeys
from journal.format import KEY_PURPOSE, header_length, parse_header, parse_segment_name
from journal.reader import SegmentKeys
from journal.segment_keys import seal_segment_key
from sidecar.check import Caller, Checker, Detail, Identifier, Question, TraceContext, make_decision_id
from sidecar.ports import LogHead, WireEntry
from tests.fakes.audit_material import AUDITOR
from tests.fakes.clock import FakeClock
from tests.fakes.histories import JURISDICTIONS, PURPOSES, make_policy
from tests.fakes.log_builder import ORIGIN, START_MS, LogBuilder

DAY_MS = 86_400_000
FIRST_DAY = START_MS // DAY_MS
AUDIT_KEYS = tuple((day, bytes([day % 251]) * 31 + b"\x01") for day in range(FIRST_DAY - 3, FIRST_DAY + 15))
CALLER = Caller("shop", frozenset({"*"}), frozenset({"check"}), Detail.FULL, may_use_tokens=True)
SHY_CALLER = Caller("shy", frozenset({"left"}), frozenset({"check"}), Detail.FULL, may_use_tokens=False)
NO_TRACE = TraceContext(bytes(15) + b"\x01", bytes(8), 1)


class MemoryCache:
    """What a sidecar holds, taken from the log as it is; `lag` shows that it stays where it was."""

    def __init__(self, log: LogBuilder) -> None:
        self._log = log
        self.head: LogHead = LogBuilder().head()
        self.head = LogHead(self.head.frontier, self.head.tenant, None)
        self.policy: Policy | None = None
        self.key_ring: KeyRing | None = None
        self.is_intact = True
        self._clusters: dict[bytes, Cluster] = {}

    def follow(self, audit_keys: Sequence[tuple[int, bytes]] = AUDIT_KEYS) -> None:
        """Take over the log as it is."""
        self.head, self._clusters = self._log.head(), dict(self._log.clusters)
        self.policy = self._log.tenant_state.load_policy()
        self.key_ring = KeyRing(tuple(self._log.subject_keys), tuple(audit_keys))

    def find(self, token: bytes) -> Cluster | None:
        return self._clusters.get(token)


class MemoryJournal:
    """Keeps records in a list."""

    def __init__(self) -> None:
        self.records: list[bytes] = []

    async def append(self, record: bytes, decisions: int) -> None:
        self.records.append(record)


@dataclass
class RecordedLife:
    """A log, its people, and what is asked about them. Everything follows from `seed`.

    Attributes:
        seed: Decides everything.
        people: How many.
        log: The log.
        clock: The sidecars' time; the boot clock counts from the log's start, as the checkpoints of `log.head()` do.
    """

    seed: int = 0
    people: int = 30
    log: LogBuilder = field(default_factory=LogBuilder)
    clock: FakeClock = field(default_factory=lambda: FakeClock(START_MS + 60_000, boot_ms=60_000))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.names = [f"person-{number}" for number in range(self.people)]
        tokeniser = Tokeniser(self.log.subject_keys[:1])
        self.first_tokens = {name: tokeniser.token("user", name) for name in self.names}

    def begin(self) -> None:
        """The first key epoch and the first policy."""
        self.log.append(self.log.next_epoch())
        self.publish_policy()

    def policy_event(self, **changes: object) -> PolicyEvent:
        """The next policy, which differs a little from the one before."""
        version = self.log.tenant_state.policy_version + 1
        mapping = json.loads(format_policy(make_policy()))
        mapping |= {"version": version, "replaces_version": version - 1, "reuse_window_seconds": 30 * version}
        mapping["purposes"]["leaf"]["min_proof"] = 1 + version % 2
        mapping["purposes"]["left"]["min_notice"] = version % 3
        mapping["callers"] = {"shop": ["*"], "shy": ["left"]}
        policy = policy_from_mapping(mapping | changes)
        document = format_policy(policy)
        return PolicyEvent(origin=ORIGIN, version=version, replaces_version=version - 1, document=document)

    def publish_policy(self) -> None:
        """Put the next policy in force."""
        self.log.append(self.policy_event())

    def make_event(self) -> Event:
        """Anything that a feed may log about people, in the epoch that the log is in."""
        source, now_ms = self.random, self.clock.now_ms()
        token, other = (self.first_tokens[name] for name in source.sample(self.names, 2))
        at_ms = now_ms - source.randrange(0, 90 * 60_000)
        kind = source.random()
        event: Event
        if kind < 0.7:
            event = DirectiveEvent(
                origin=ORIGIN,
                token=token,
                kind=int(source.choice([Kind.GRANT, Kind.GRANT, *Kind])),
                occurred_at_ms=at_ms,
                purpose=source.choice((*PURPOSES, "*")),
                proof=source.randrange(4),
                assurance=source.randrange(3),
                subtree=source.random() < 0.4,
                explicit=source.random() < 0.3,
                granted_by=int(source.choice(list(GrantedBy))),
                notice_version=source.randrange(3),
                recipient=source.choice(("*", "*", "acme")),
                expires_at_ms=source.choice((None, None, now_ms + 3_600_000, now_ms + 9 * DAY_MS)),
            )
        elif kind < 0.78:
            event = LinkEvent(origin=ORIGIN, left=token, right=other, proof=source.randrange(4), occurred_at_ms=at_ms)
        elif kind < 0.83:
            event = UnlinkEvent(origin=ORIGIN, left=token, right=other, occurred_at_ms=at_ms)
        elif kind < 0.9:
            event = FactEvent(
                origin=ORIGIN,
                token=token,
                age_band=int(source.choice(list(AgeBand))),
                proof=source.randrange(4),
                occurred_at_ms=at_ms,
                jurisdictions=tuple(sorted(source.sample(JURISDICTIONS, source.randrange(3)))),
            )
        elif kind < 0.95:
            restricted, proof = source.random() < 0.5, source.randrange(4)
            event = RestrictionEvent(
                origin=ORIGIN, token=token, restricted=restricted, proof=proof, occurred_at_ms=at_ms
            )
        else:
            event = OverrideEvent(
                origin=ORIGIN,
                token=token,
                objection_seq=source.randrange(1, self.log.size + 1),
                occurred_at_ms=at_ms,
                purpose=source.choice(PURPOSES),
                ground="compelling",
            )
        return self.log.lead(event)

    def make_question(self) -> Question:
        """Something that a caller may ask, names that no policy knows among it."""
        source = self.random
        purposes = tuple(source.sample(PURPOSES, source.choice((1, 1, 2))))
        if source.random() < 0.03:
            purposes = (*purposes, "somebody@example.com")
        min_seq = self.log.size + source.choice((-1, 0, 5)) if source.random() < 0.1 else 0
        return Question(
            purposes=purposes,
            facts=Facts(
                int(source.choice(list(AgeBand))),
                tuple(source.sample((*JURISDICTIONS, "nowhere"), source.randrange(3))),
            ),
            sec_gpc=source.random() < 0.2,
            recipient=source.choice(("*", "acme", "beta")),
            data_categories=source.choice(((), ("contact",), ("health",), ("unheard of",))),
            min_seq=max(0, min_seq),
            is_understood=source.random() > 0.02,
        )

    def make_identifiers(self) -> list[Identifier]:
        """Who is asked about: known people most often, a stranger, or somebody whose identifier makes no sense."""
        source = self.random
        kind = source.random()
        if kind < 0.05:
            return [Identifier("user", f"stranger-{source.randrange(1000)}")]
        if kind < 0.08:
            return [Identifier("email", "not an address")]
        if kind < 0.14:
            return [Identifier("", "", self.first_tokens[source.choice(self.names)], 0)]
        names = source.sample(self.names, source.choice((1, 1, 2)))
        return [Identifier("user", name) for name in names]

    async def ask(self, checker: Checker, items: int = 1, caller: Caller | None = None) -> bytes:
        """Ask about some people; returns the call's id."""
        asking = caller or self.random.choice((CALLER, CALLER, CALLER, CALLER, SHY_CALLER))
        call_id = make_decision_id(self.clock.now_ms())
        subjects = [self.make_identifiers() for _ in range(items)]
        await checker.check(asking, self.make_question(), subjects, call_id, NO_TRACE)
        return call_id

    def erase(self, name: str) -> ErasureEvent:
        """Erase a person as the feed does: log it, and take away the payload of what is about nobody else."""
        log = self.log
        keys, tenant = SubjectKeys(tuple(log.subject_keys)), log.tenant_state
        token = log.lead_token(self.first_tokens[name])
        cluster = log.clusters.get(token)
        tokens = frozenset(member.token for member in cluster.members) if cluster is not None else frozenset({token})
        scan = _Scan(tokens, cluster, keys, tenant)
        stored = (
            StoredEntry(seq, entry.type_byte, entry.opening, entry.event_bytes)
            for seq, entry in enumerate(log.entries, 1)
        )
        scan.take([entry for entry in stored if entry.type_byte != EventType.POLICY])
        seqs = tuple(entry.seq for entry in scan.erasable())
        event = ErasureEvent(
            origin=ORIGIN,
            key_epoch=current_epoch(tenant),
            tokens=tuple(sorted(tokens)),
            seqs=seqs,
            occurred_at_ms=self.clock.now_ms(),
        )
        log.append(event)
        for seq in seqs:
            entry = log.entries[seq - 1]
            commitment = commit(entry.opening, entry.event_bytes)
            log.entries[seq - 1] = WireEntry(entry.type_byte, b"", b"", (), commitment)
        return event

    def replay_ring(self, audit_keys: Sequence[tuple[int, bytes]] = AUDIT_KEYS) -> KeyRing:
        """What the feed gives an auditor: no key that makes a token of an identifier."""
        return KeyRing((bytes(32), *self.log.subject_keys[1:]), tuple(audit_keys))

    def write_replay_keys(self, folder: Path, ring: KeyRing | None = None) -> None:
        """Seal the keys to the auditor."""
        sealed = seal_key_ring(
            ring or self.replay_ring(),
            AUDITOR.private_key.public_key().public_bytes_raw(),
            tenant=self.log.trust.tenant,
            sidecar_id=AUDITOR.name,
        )
        (folder / REPLAY_KEYS_FILE_NAME).write_bytes(sealed)


def seal_segment_keys(folder: Path, sidecar_id: str, keys: SegmentKeys) -> None:
    """Seal the keys of a real journal's segments to the auditor, as a sidecar does when it is asked."""
    directory = folder / JOURNALS_DIRECTORY_NAME / sidecar_id
    sealed: dict[str, str] = {}
    for path in directory.glob("*.journal"):
        content, name = path.read_bytes(), parse_segment_name(path.name)
        assert name is not None
        header = parse_header(content[: header_length(content)])
        sealed[format_key_name(name)] = seal_segment_key(
            bytes(keys.unwrap(header.wrapped_key, KEY_PURPOSE)),
            AUDITOR.private_key.public_key().public_bytes_raw(),
            recipient_name=AUDITOR.name,
            sidecar_id=sidecar_id,
            chain_id=name[0],
            number=name[1],
        ).hex()
    (directory / KEYS_FILE_NAME).write_text(json.dumps(sealed))
