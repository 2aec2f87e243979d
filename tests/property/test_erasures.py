"""What an erasure takes away changes nothing for anybody: the log without it folds to the state that the whole log folds to."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.event import (
    DirectiveEvent,
    ErasedEvent,
    ErasureEvent,
    Event,
    LinkEvent,
    ReceivedEvent,
    UnlinkEvent,
    format_event,
)
from consent.key_epoch import current_epoch, rekey_clusters
from consent.key_ring import commit_key
from consent.state import Cluster, fold_event
from consent.tenant_state import TenantState
from consent.vocabulary.directive import Kind
from consent.vocabulary.subject import Rekeyer
from feed.erasure import _Scan
from feed.ports import StoredEntry
from feed.signing.subject_keys import SubjectKeys
from tests.fakes.histories import NOW_MS, ORIGIN, TOKENS, histories

KEYS = tuple(bytes([number]) * 32 for number in range(1, 5))
SUBJECT_KEYS = SubjectKeys(KEYS)


@dataclass
class ErasingLog:
    """A log in which people are erased as the feed does it.

    Attributes:
        clusters: What everything that was ever logged folds to.
        events: What is left of it, in order; an epoch's number where one begins.
    """

    clusters: dict[bytes, Cluster] = field(default_factory=dict)
    events: list[Event | int] = field(default_factory=list)
    tenant: TenantState = field(default_factory=lambda: TenantState(key_commitments=(commit_key(KEYS[0]),)))

    def append(self, event: Event) -> None:
        led = SUBJECT_KEYS.lead_event(event, self.tenant)
        self.events.append(led)
        self.clusters |= fold_event(led, len(self.events), self.clusters.get)

    def begin_epoch(self) -> None:
        epoch = current_epoch(self.tenant) + 1
        if epoch < len(KEYS):
            self.tenant = TenantState(key_commitments=tuple(map(commit_key, KEYS[: epoch + 1])))
            self.events.append(epoch)
            self.clusters = rekey_clusters(self.clusters, Rekeyer(KEYS[epoch]))

    def erase(self, token: bytes) -> None:
        led = SUBJECT_KEYS.lead_token(token, self.tenant)
        cluster = self.clusters.get(led)
        tokens = frozenset(member.token for member in cluster.members) if cluster is not None else frozenset({led})
        scan = _Scan(tokens, cluster, SUBJECT_KEYS, self.tenant)
        scan.take([_stored(seq, event) for seq, event in enumerate(self.events, start=1)])
        gone = [entry.seq for entry in scan.erasable()]
        epoch = current_epoch(self.tenant)
        event = ErasureEvent(
            origin=ORIGIN, key_epoch=epoch, tokens=tuple(sorted(tokens)), seqs=tuple(gone), occurred_at_ms=NOW_MS
        )
        self.append(event)
        for seq in gone:
            self.events[seq - 1] = ErasedEvent(origin="", type_byte=1)


def _stored(seq: int, event: Event | int) -> StoredEntry:
    if isinstance(event, int | ErasedEvent):
        return StoredEntry(seq, 9, b"", b"")
    return StoredEntry(seq, event.TYPE, bytes(32), format_event(event))


def fold_what_is_left(log: ErasingLog) -> dict[bytes, Cluster]:
    clusters: dict[bytes, Cluster] = {}
    for seq, event in enumerate(log.events, start=1):
        if isinstance(event, int):
            clusters = rekey_clusters(clusters, Rekeyer(KEYS[event]))
        else:
            clusters |= fold_event(event, seq, clusters.get)
    return clusters


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            histories(max_size=8),
            histories(max_size=8),
            st.sampled_from(TOKENS),
            st.sampled_from(TOKENS),
            st.just("epoch"),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_erasure_what_is_left_of_the_log_folds_to_the_state_of_all_of_it(
    steps: list[list[Event] | bytes | str],
) -> None:
    log = ErasingLog()
    for step in steps:
        match step:
            case bytes():
                log.erase(step)
            case "epoch":
                log.begin_epoch()
            case _:
                assert isinstance(step, list)
                for event in step:
                    log.append(event)
    assert fold_what_is_left(log) == log.clusters


@given(histories(max_size=12), st.sampled_from(TOKENS))
def test_erasure_leaves_one_denial_and_touches_nobody_else(history: list[Event], token: bytes) -> None:
    log = ErasingLog()
    for event in history:
        log.append(event)
    before = dict(log.clusters)
    person = {member.token for member in before[token].members} if token in before else {token}
    log.erase(token)
    for erased in person:
        (member,) = log.clusters[erased].members
        (denial,) = member.directives
        assert (denial.purpose, denial.kind, denial.seq) == ("*", Kind.OPT_OUT, len(log.events))
        assert not (member.links)
        assert not (member.overrides)
        assert not (member.restricted_seq)
        assert member.stated == member.hinted
    assert {t: c for t, c in log.clusters.items() if t not in person} == {
        t: c for t, c in before.items() if t not in person
    }


@given(histories(max_size=12), st.sampled_from(TOKENS))
def test_erasure_of_somebody_who_was_never_linked_to_others_leaves_none_of_their_entries(
    history: list[Event], token: bytes
) -> None:
    log = ErasingLog()
    for event in history:
        if getattr(event, "left", token) == token == getattr(event, "right", token):
            log.append(event)
    log.erase(token)
    rest = [event for event in log.events[:-1] if getattr(event, "token", b"") == token]
    assert rest == []


def test_erasure_takes_the_receipt_of_the_request_with_it() -> None:
    log, request_id = ErasingLog(), bytes(range(16))
    log.append(ReceivedEvent(origin=ORIGIN, request_id=request_id, received_at_ms=1, request_type=1))
    log.append(_opt_out(request_id))
    log.append(ReceivedEvent(origin=ORIGIN, request_id=bytes(16), received_at_ms=1, request_type=1))
    log.append(_opt_out(bytes(16)))
    log.erase(TOKENS[0])
    assert [type(event) for event in log.events] == [ErasedEvent, ErasedEvent, ReceivedEvent, ErasedEvent, ErasureEvent]


def _opt_out(request_id: bytes) -> Event:
    return DirectiveEvent(
        origin=ORIGIN, request_id=request_id, token=TOKENS[0], kind=Kind.OPT_OUT, occurred_at_ms=1, purpose="*"
    )


def test_erasure_keeps_what_the_record_of_somebody_rests_on_who_was_linked_through_another_that_was_erased() -> None:
    first, between, other = TOKENS[:3]
    log = ErasingLog()
    log.append(LinkEvent(origin=ORIGIN, left=first, right=between, proof=2, occurred_at_ms=1))
    log.append(LinkEvent(origin=ORIGIN, left=between, right=other, proof=2, occurred_at_ms=1))
    log.append(_opt_out(bytes(16)))
    log.append(UnlinkEvent(origin=ORIGIN, left=between, right=other, occurred_at_ms=1))
    log.erase(first)
    log.erase(first)
    assert fold_what_is_left(log) == log.clusters
    assert [directive.seq for directive in log.clusters[other].members[0].directives] == [3]
