"""A check, from identifiers to a recorded answer: tokens, lookup, decision, record. Memory only, until the record is kept."""

import os
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from consent.decide import Decision, Freshness, Request, RuleResult, decide
from consent.decision_record import (
    NO_AGE,
    AskedQuestion,
    CallRecord,
    Item,
    Situation,
    format_question,
    format_record,
    format_situation,
)
from consent.errors import InvalidIdentifier
from consent.key_ring import KeyRing
from consent.policy import Policy
from consent.state import UNKNOWN_SUBJECT, SubjectView
from consent.vocabulary.directive import ANY, Facts
from consent.vocabulary.reason import Effect, Reason
from consent.vocabulary.subject import TOKEN_BYTES, Pseudonymiser, Tokeniser, normalise
from hosting.clock import Clock
from hosting.telemetry.trace_context import parse_traceparent
from sidecar.ports import Cache, Journal, LogHead
from sidecar.sync.freshness import age_ms
from sidecar.telemetry.metrics import CheckMeter

MAX_WAIT_MS = 10_000
UNKNOWN_NAME = "(unknown)"
"""Recorded in place of a purpose, jurisdiction or data category that the policy does not know."""
NEVER_SEQ = 2**62
"""A sequence number that no log reaches: stands for a consistency token of another log."""

_MS_PER_DAY = 86_400_000
# W3C Trace Context, 3.2: later versions may add fields behind the flags.
_VERSION_7 = 0x7000_8000_0000_0000_0000
_VERSION_MASK = 0x0FFF_3FFF_FFFF_FFFF_FFFF


class Detail(StrEnum):
    """How much a caller is told."""

    EFFECT = "effect"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the listener's configuration says; nothing that a message says changes it.

    Attributes:
        name: In the record, and in the policy's list of callers.
        purposes: What it may ask for, or `*`.
        methods: RPCs that it may call.
        detail: How much it is told.
        may_use_tokens: It may send ready tokens in place of identifiers.
    """

    name: str
    purposes: frozenset[str]
    methods: frozenset[str]
    detail: Detail = Detail.EFFECT
    may_use_tokens: bool = False

    def is_permitted(self, purposes: Sequence[str], policy: Policy | None) -> bool:
        """Rule 3: the listener and the policy both let it ask for all of these."""
        if ANY not in self.purposes and not self.purposes.issuperset(purposes):
            return False
        return policy is None or policy.is_caller_permitted(self.name, purposes)


class Identifier(NamedTuple):
    """One name of a person: namespace and value, or a ready token of a key epoch."""

    namespace: str
    value: str
    token: bytes = b""
    key_epoch: int = 0

    def __repr__(self) -> str:
        """The namespace alone: identifiers must not reach logs."""
        return f"Identifier({self.namespace!r})"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about each subject of a group.

    Attributes:
        purposes: Names, in NFC.
        facts: What the caller states of the person.
        sec_gpc: The request carried the signal.
        recipient: Who would receive the data, `*` for the controller itself.
        data_categories: Sorted.
        min_seq: The consistency demanded, `NEVER_SEQ` for another log's.
        wait_ms: How long to wait for it.
        is_understood: Every enumerated value was known here.
    """

    purposes: tuple[str, ...]
    facts: Facts
    sec_gpc: bool = False
    recipient: str = ANY
    data_categories: tuple[str, ...] = ()
    min_seq: int = 0
    wait_ms: int = 0
    is_understood: bool = True


class TraceContext(NamedTuple):
    """W3C trace context of the caller; a trace of our own where it sent none."""

    trace_id: bytes
    parent_span_id: bytes
    flags: int


class Answer(NamedTuple):
    """The decisions of one group, in the order of its subjects."""

    call_id: bytes
    decisions: list[Decision]
    log_size: int
    policy_version: int
    staleness_ms: int


class _Held(NamedTuple):
    """What one group is decided on: taken once, so that all its answers come from the same state."""

    head: LogHead
    policy: Policy | None
    freshness: Freshness
    now_ms: int
    situation: bytes


class Checker:
    """Answers checks.

    Args:
        cache: What is held.
        journal: Keeps the record before an answer leaves.
        clock: The time.
        boot_id: Which boot the clock belongs to.
        origin: Name of the log that this sidecar trusts.
        bootstrap_policy: Policy in force before the first snapshot, if one is configured.

    Attributes:
        meter: Counts decisions and calls.
    """

    def __init__(
        self,
        cache: Cache,
        journal: Journal,
        clock: Clock,
        boot_id: str,
        origin: str,
        bootstrap_policy: Policy | None = None,
    ) -> None:
        self._cache = cache
        self._journal = journal
        self._clock = clock
        self._boot_id = boot_id
        self._origin = origin
        self._bootstrap_policy = bootstrap_policy
        self.meter = CheckMeter()
        self._keys = Keys()
        self._words = _RecordedWords()
        self._situation_of: tuple[LogHead, bool] | None = None
        self._situation = b""

    async def wait_for(self, question: Question, remaining_seconds: float | None) -> None:
        """Give the entry that a question demands its time to arrive."""
        wait_seconds = min(question.wait_ms, MAX_WAIT_MS) / 1000
        if remaining_seconds is not None:
            # Part of the caller's time is needed for the answer itself.
            wait_seconds = min(wait_seconds, remaining_seconds * 0.8)
        if wait_seconds > 0 and self._cache.head.size < question.min_seq < NEVER_SEQ:
            await self._cache.wait_for_size(question.min_seq, wait_seconds)

    async def check(
        self,
        caller: Caller,
        question: Question,
        subjects: Sequence[Sequence[Identifier]],
        call_id: bytes,
        context: TraceContext,
        rules: list[RuleResult] | None = None,
    ) -> Answer:
        """Decide about every subject of a group and keep the record.

        Args:
            caller: Who asks.
            question: What is asked.
            subjects: Identifiers of each person.
            call_id: 16 bytes; the id of the first decision.
            context: Where the decision belongs in the caller's trace.
            rules: Filled with the rules tried, for an explanation of a single subject.

        Returns:
            The decisions, recorded.

        Raises:
            JournalUnavailable: The record cannot be kept, so there is no answer.
        """
        started_ns = time.perf_counter_ns()
        held = self._take_held()
        request = self._make_request(caller, question, held)
        decisions, items = [], []
        for identifiers in subjects:
            tokens = self._keys.tokens(identifiers, may_use_tokens=caller.may_use_tokens)
            decision = self._decide(request, tokens, held, rules)
            decisions.append(decision)
            pseudonyms = self._keys.pseudonyms(tokens)
            is_well_formed = request.is_well_formed and tokens is not None
            effect, reason, seq, valid_until_ms, _ = decision
            items.append(Item(pseudonyms, is_well_formed, effect, reason, seq, valid_until_ms))
        age = held.freshness.age_ms
        record = CallRecord(
            call_id=call_id,
            now_ms=held.now_ms,
            age_ms=NO_AGE if age is None else age,
            latency_us=(time.perf_counter_ns() - started_ns) // 1000,
            trace_id=context.trace_id,
            parent_span_id=context.parent_span_id,
            span_id=call_id[8:],
            trace_flags=context.flags,
            situation=held.situation,
            question=self._words.format(caller, question, request.is_caller_permitted, held.policy),
            items=tuple(items),
        )
        await self._journal.append(format_record(record), len(items))
        self.meter.count(question.purposes, held.policy.purposes if held.policy is not None else (), decisions)
        version = held.policy.version if held.policy is not None else 0
        return Answer(call_id, decisions, held.head.size, version, age or 0)

    def count_answered(self, decisions: int) -> None:
        """Count decisions that are handed back; an audit compares them with those that are recorded."""
        self._journal.count_answered(decisions)

    def _take_held(self) -> _Held:
        cache, now_ms = self._cache, self._clock.now_ms()
        head = cache.head
        # The bootstrap policy is for the time before the first snapshot: what the log holds, the log's policy decides.
        policy = cache.policy if head.checkpoint is not None else self._bootstrap_policy
        has_keys = self._keys.use(cache.key_ring, head.tenant.key_commitments, now_ms // _MS_PER_DAY)
        age = age_ms(head.checkpoint, self._clock, self._boot_id) if has_keys else None
        freshness = Freshness(head.size, age, cache.is_intact)
        if self._situation_of is None or self._situation_of[0] is not head or self._situation_of[1] != cache.is_intact:
            self._situation = format_situation(
                Situation(
                    origin=self._origin if head.size else "",
                    log_size=head.size,
                    root_hash=head.frontier.root_hash(),
                    policy_version=policy.version if policy is not None else 0,
                    checkpoint_time_ms=head.checkpoint.time_ms if head.checkpoint is not None else None,
                    is_intact=cache.is_intact,
                )
            )
            self._situation_of = (head, cache.is_intact)
        return _Held(head, policy, freshness, now_ms, self._situation)

    def _make_request(self, caller: Caller, question: Question, held: _Held) -> Request:
        return Request(
            purposes=question.purposes,
            now_ms=held.now_ms,
            is_well_formed=question.is_understood,
            is_caller_permitted=caller.is_permitted(question.purposes, held.policy),
            facts=question.facts,
            sec_gpc=question.sec_gpc,
            recipient=question.recipient,
            data_categories=frozenset(question.data_categories),
            min_seq=question.min_seq,
        )

    def _decide(
        self, request: Request, tokens: tuple[bytes, ...] | None, held: _Held, rules: list[RuleResult] | None
    ) -> Decision:
        if tokens is None or not request.is_well_formed or not request.purposes:
            if rules is not None:
                rules.append(RuleResult(1, "", fired=True))
            return Decision(Effect.DENY, Reason.INVALID_REQUEST)
        if held.policy is None:
            # Without a policy no purpose is known; what is missing is the data, and the answer says so.
            return Decision(Effect.DENY, Reason.NO_SNAPSHOT)
        views = [self._view(token) for token in tokens]
        return decide(request, views, held.policy, held.freshness, rules)

    def _view(self, token: bytes) -> SubjectView:
        cluster = self._cache.find(token) if token else None
        return UNKNOWN_SUBJECT if cluster is None else cluster.view(token)


class Keys:
    """The keyed hashes of the ring and day in use."""

    def __init__(self) -> None:
        self._ring: KeyRing | None = None
        self._commitments: tuple[bytes, ...] = ()
        self._day = -1
        self._tokeniser: Tokeniser | None = None
        self._pseudonymiser: Pseudonymiser | None = None

    def use(self, ring: KeyRing | None, commitments: tuple[bytes, ...], day: int) -> bool:
        """Take a ring and a day into use; costs nothing where they are in use already.

        Args:
            ring: What is held.
            commitments: Of the log held. Under any other key nobody would be found, and an opt-out would read as nothing known.
            day: For the audit pseudonyms, counted from 1970-01-01 UTC.

        Returns:
            Whether tokens can be made that the log's are to be found under.
        """
        if ring is not self._ring or commitments is not self._commitments or day != self._day:
            self._ring, self._commitments, self._day = ring, commitments, day
            audit_key = ring.audit_key(day) if ring is not None else None
            fits = ring is not None and ring.matches(commitments)
            self._tokeniser = Tokeniser(ring.subject_keys) if ring is not None and fits else None
            self._pseudonymiser = Pseudonymiser(audit_key) if audit_key is not None else None
        return self._tokeniser is not None

    def tokens(self, identifiers: Sequence[Identifier], *, may_use_tokens: bool) -> tuple[bytes, ...] | None:
        """The tokens of one person, None where an identifier is missing, malformed or not permitted (rule 1).

        Before the first key ring there are no tokens, and nothing to find under them: every identifier gets an empty one.
        """
        tokens = []
        try:
            for namespace, value, token, key_epoch in identifiers:
                if token:
                    if not may_use_tokens or len(token) != TOKEN_BYTES or namespace or value:
                        return None
                    tokens.append(token if self._tokeniser is None else self._tokeniser.lead(token, key_epoch))
                elif self._tokeniser is not None:
                    tokens.append(self._tokeniser.token(namespace, value))
                else:
                    normalise(namespace, value)
                    tokens.append(b"")
        except InvalidIdentifier:
            return None
        return tuple(tokens) or None

    def pseudonyms(self, tokens: tuple[bytes, ...] | None) -> tuple[bytes, ...]:
        """Their audit pseudonyms of the day; none without keys, nor for a token that could not be made: it would be everybody's."""
        make = self._pseudonymiser
        if make is None or tokens is None:
            return ()
        return tuple([make.pseudonym(token) for token in tokens if token])


class _RecordedWords:
    """Questions as the record keeps them, each formatted once.

    A caller that mixes up its fields may send an identifier where a name belongs. So names that the policy does not know are recorded
    as `UNKNOWN_NAME`: `decide` treats all unknown names alike, and the record replays the same.
    """

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._format = lru_cache(maxsize=256)(self._format_anew)
        self._purposes: frozenset[str] = frozenset()
        self._jurisdictions: frozenset[str] = frozenset()
        self._categories: frozenset[str] = frozenset()

    def format(self, caller: Caller, question: Question, is_permitted: bool, policy: Policy | None) -> bytes:
        """The bytes of `format_question`."""
        if policy is not self._policy:
            self._take_policy(policy)
        return self._format(caller.name, question, is_permitted)

    def _take_policy(self, policy: Policy | None) -> None:
        self._policy = policy
        self._purposes = frozenset(policy.purposes) if policy is not None else frozenset()
        self._jurisdictions = frozenset(code for _, code in policy.regimes) if policy is not None else frozenset()
        of_purposes = (purpose.data_categories for purpose in policy.purposes.values()) if policy is not None else ()
        special = policy.special_categories if policy is not None else frozenset()
        self._categories = special.union(*of_purposes)
        self._format.cache_clear()

    def _format_anew(self, caller_name: str, question: Question, is_permitted: bool) -> bytes:
        asked = AskedQuestion(
            caller=caller_name,
            is_caller_permitted=is_permitted,
            purposes=_known(question.purposes, self._purposes),
            jurisdictions=_known(question.facts.jurisdictions, self._jurisdictions),
            age_band=question.facts.age_band,
            sec_gpc=question.sec_gpc,
            recipient=question.recipient,
            data_categories=_known(question.data_categories, self._categories),
            min_seq=question.min_seq,
        )
        return format_question(asked)


def _known(names: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    return tuple(name if name in known else UNKNOWN_NAME for name in names)


class _RandomBytes:
    """Random bytes of the operating system, fetched many at a time: a system call for each id would cost more than the decision."""

    _FETCH_BYTES = 4096

    def __init__(self) -> None:
        self._fetched = b""
        self._at = 0

    def take(self, size_bytes: int) -> bytes:
        """Bytes that were never handed out before."""
        if self._at + size_bytes > len(self._fetched):
            self._fetched, self._at = os.urandom(self._FETCH_BYTES), 0
        start, self._at = self._at, self._at + size_bytes
        return self._fetched[start : self._at]


_take_random = _RandomBytes().take


def make_decision_id(now_ms: int) -> bytes:
    """A UUIDv7 (RFC 9562) of 16 bytes: 48 bits of Unix ms, then random bits."""
    random_bits = int.from_bytes(_take_random(10), "big") & _VERSION_MASK | _VERSION_7
    return now_ms.to_bytes(6, "big") + random_bits.to_bytes(10, "big")


def parse_trace_context(traceparent: str | None) -> TraceContext:
    """Read a W3C `traceparent`; a missing or malformed one starts a trace of our own, as the specification asks."""
    given = parse_traceparent(traceparent)
    if given is not None:
        return TraceContext(*given)
    return TraceContext(_take_random(16), bytes(8), 1)


def normalise_name(name: str) -> str:
    """Names of purposes, recipients and the like compare in NFC."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)
