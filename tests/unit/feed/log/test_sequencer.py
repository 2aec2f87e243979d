import asyncio
from pathlib import Path

import pytest

from consent.authority import Authority
from consent.event import (
    Event,
    EventType,
    KeyEpochEvent,
    PolicyEvent,
    RejectedEvent,
    RestrictionEvent,
    StateRootEvent,
    parse_event,
)
from consent.key_ring import commit_key
from feed.errors import (
    ClusterTooLarge,
    CorruptLog,
    ForeignLog,
    IdempotencyKeyReused,
    InvalidRequest,
    LogBehindSidecar,
    Overloaded,
    PolicyConflict,
    PolicyRejected,
    ShuttingDown,
)
from feed.log_store.port import StoredHead
from feed.ports import Accepted, IdempotencyKey
from feed.sequencer import Sequencer, SequencerLimits, batch_builder
from feed.signing.subject_keys import SubjectKeys
from tests.fakes.clock import FakeClock
from tests.fakes.feed_log import (
    KEYS,
    ORIGIN,
    SIGNER,
    TRUST,
    make_directive,
    make_link,
    make_policy,
    make_request,
    make_sequencer,
    make_submission,
    make_unlink,
    open_log,
    open_store,
    seed,
    token_of,
    verify_everything,
    verify_note,
)


def make_policy_event(version: int = 1, document: bytes | None = None) -> PolicyEvent:
    document = make_policy(version) if document is None else document
    return PolicyEvent(origin=ORIGIN, version=version, replaces_version=version - 1, document=document)


async def test_sequencer_new_log_begins_with_its_subject_key(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        (entry,) = await log.sequencer.read_entries(1, 10)

        event = parse_event(entry.event_bytes)
        assert event == KeyEpochEvent(
            origin=ORIGIN, source="feed", epoch=0, key_commitment=commit_key(KEYS.subject_key)
        )
        assert log.sequencer.head.tenant.key_commitments == (commit_key(KEYS.subject_key),)
        verify_note(log.sequencer.head)


async def test_sequencer_second_start_adds_nothing_and_signs_anew(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_request("ann"))
        before = log.sequencer.head
    async with open_log(tmp_path) as log:
        assert log.sequencer.head.frontier == before.frontier
        verify_note(log.sequencer.head)
        assert len(await verify_everything(log.store)) == 3


async def test_sequencer_subject_key_of_another_log_stops_the_start(tmp_path: Path) -> None:
    async with open_log(tmp_path):
        pass
    store = await open_store(tmp_path)
    keys = SubjectKeys((seed("other"),))
    sequencer = Sequencer(store, SIGNER, FakeClock(), origin=ORIGIN, subject_keys=keys, authority=Authority(TRUST))
    try:
        with pytest.raises(ForeignLog, match="subject key"):
            await sequencer.start()
        with pytest.raises(ShuttingDown):
            await sequencer.submit(make_request("ann"))
    finally:
        await store.close()


async def test_sequencer_request_is_logged_as_a_whole_and_answered_with_its_outcome(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        log.clock.advance(1_234)
        accepted = await log.sequencer.submit(make_request("ann"))

        assert accepted == Accepted(make_directive("ann").request_id, 3, log.clock.now_ms())
        received, directive = await log.sequencer.read_entries(2, 10)
        assert (received.type_byte, directive.type_byte) == (EventType.RECEIVED, EventType.DIRECTIVE)
        assert parse_event(directive.event_bytes) == make_directive("ann")
        assert directive.traceparent == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        cluster = await log.sequencer.find_cluster(token_of("ann"))
        assert cluster is not None
        assert [directive.seq for directive in cluster.members[0].directives] == [3]
        assert await log.sequencer.find_cluster(token_of("bob")) is None
        verify_note(log.sequencer.head)


async def test_sequencer_refused_request_is_answered_with_its_reason_now_and_later(tmp_path: Path) -> None:
    rejected = RejectedEvent(origin=ORIGIN, rejected_at_ms=1, rejection="NO_POLICY", request_id=bytes(range(16)))
    submission = make_submission((rejected,), IdempotencyKey("web", "key", seed("content")))
    async with open_log(tmp_path) as log:
        first = await log.sequencer.submit(submission)
        assert (first.rejection, first.is_replay) == ("NO_POLICY", False)
    async with open_log(tmp_path) as log:
        again = await log.sequencer.submit(submission)
        assert (again.rejection, again.is_replay, again.seq) == ("NO_POLICY", True, 2)
        assert again.request_id == bytes(range(16))


async def test_sequencer_repeated_request_is_answered_as_before_and_not_logged(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        first = await log.sequencer.submit(make_request("ann"))
        log.clock.advance(5_000)
        again = await log.sequencer.submit(make_request("ann"))

        assert again == Accepted(first.request_id, first.seq, first.accepted_at_ms, is_replay=True)
        assert log.sequencer.head.size == 3


async def test_sequencer_repetitions_in_one_batch_are_one_request(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        answers = await asyncio.gather(*(log.sequencer.submit(make_request("ann")) for _ in range(5)))

        assert sorted(answer.is_replay for answer in answers) == [False, True, True, True, True]
        assert {answer.seq for answer in answers} == {3}
        assert len(await verify_everything(log.store)) == 3


@pytest.mark.parametrize("is_one_batch", [True, False])
async def test_sequencer_key_with_other_content_is_refused(tmp_path: Path, is_one_batch: bool) -> None:
    requests = [make_request("ann", content=str(number)) for number in range(2)]
    async with open_log(tmp_path) as log:
        if is_one_batch:
            results = await asyncio.gather(*map(log.sequencer.submit, requests), return_exceptions=True)
            assert isinstance(results[1], IdempotencyKeyReused)
        else:
            await log.sequencer.submit(requests[0])
            with pytest.raises(IdempotencyKeyReused):
                await log.sequencer.submit(requests[1])
        assert len(await verify_everything(log.store)) == 3


async def test_sequencer_same_key_of_another_source_is_another_request(tmp_path: Path) -> None:
    request = make_request("ann")
    other = make_submission(request.events, IdempotencyKey("shop", "key-ann", seed("other content")))
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(request)
        assert not (await log.sequencer.submit(other)).is_replay


async def test_sequencer_many_at_once_are_gapless_and_in_few_commits(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        commits: list[int] = []
        log.sequencer.watch(lambda: commits.append(log.sequencer.head.size))
        answers = await asyncio.gather(*(log.sequencer.submit(make_request(f"person-{n}")) for n in range(200)))

        assert sorted(answer.seq for answer in answers) == list(range(3, 402, 2))
        assert commits[-1] == 401
        assert len(commits) <= 3
        assert len(await verify_everything(log.store)) == 401


async def test_sequencer_batch_is_bounded(tmp_path: Path) -> None:
    async with open_log(tmp_path, SequencerLimits(resign_seconds=3600, max_batch_events=10)) as log:
        sizes: list[int] = []
        log.sequencer.watch(lambda: sizes.append(log.sequencer.head.size))
        await asyncio.gather(*(log.sequencer.submit(make_request(f"person-{n}")) for n in range(20)))

        assert sizes == [11, 21, 31, 41]


async def test_sequencer_events_of_a_batch_see_those_before_them(tmp_path: Path) -> None:
    submissions = [
        make_request("ann"),
        make_submission((make_link("ann", "bob"),)),
        make_request("bob", purpose="newsletter"),
        make_submission((make_link("bob", "cid"), make_directive("cid", purpose="newsletter"))),
    ]
    async with open_log(tmp_path) as log:
        await asyncio.gather(*map(log.sequencer.submit, submissions))

        cluster = await log.sequencer.find_cluster(token_of("cid"))
        assert cluster is not None
        assert {member.token for member in cluster.members} == {token_of(name) for name in ("ann", "bob", "cid")}
        await verify_everything(log.store)


async def test_sequencer_policy_is_in_force_once_it_is_logged(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        assert log.sequencer.policy is None
        accepted = await log.sequencer.submit(make_submission((make_policy_event(),)))
        assert log.sequencer.policy is not None
        assert log.sequencer.policy.version_seqs == {1: accepted.seq}
    async with open_log(tmp_path) as log:
        assert log.sequencer.policy is not None
        assert log.sequencer.policy.version == 1
        await log.sequencer.submit(make_submission((make_policy_event(2),)))
        assert log.sequencer.policy.version_seqs == {1: 2, 2: 3}
        await verify_everything(log.store)


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (make_policy_event(document=b"{}"), PolicyRejected),
        (make_policy_event(2), PolicyConflict),
    ],
)
async def test_sequencer_policy_that_fails_takes_nobody_with_it(
    tmp_path: Path, event: PolicyEvent, error: type[Exception]
) -> None:
    async with open_log(tmp_path) as log:
        submissions = [make_request("ann"), make_submission((make_directive("eve"), event)), make_request("bob")]
        results = await asyncio.gather(*map(log.sequencer.submit, submissions), return_exceptions=True)

        assert [type(result) for result in results] == [Accepted, error, Accepted]
        assert await log.sequencer.find_cluster(token_of("eve")) is None
        assert log.sequencer.policy is None
        assert len(await verify_everything(log.store)) == 5


async def test_sequencer_policy_that_may_not_follow_is_a_conflict(tmp_path: Path) -> None:
    document = make_policy(2, purposes={"other": {"parents": [], "legal_basis": "consent"}})
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_submission((make_policy_event(),)))
        with pytest.raises(PolicyConflict, match="is gone"):
            await log.sequencer.submit(make_submission((make_policy_event(2, document),)))
        assert log.sequencer.head.tenant.policy_version == 1


async def test_sequencer_denial_from_before_a_dropped_edge_is_kept_beside_later_ones(tmp_path: Path) -> None:
    purposes = {
        "marketing": {"parents": [], "legal_basis": "consent"},
        "newsletter": {
            "parents": [],
            "former_parents": [{"name": "marketing", "dropped_in_version": 2}],
            "legal_basis": "consent",
        },
    }
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_submission((make_policy_event(),)))
        before = await log.sequencer.submit(make_submission((make_directive("ann"), make_directive("bob"))))
        await log.sequencer.submit(make_submission((make_policy_event(2, make_policy(2, purposes=purposes)),)))
        after = await log.sequencer.submit(make_submission((make_directive("ann"), make_directive("ann"))))

        cluster = await log.sequencer.find_cluster(token_of("ann"))
        assert cluster is not None
        assert [directive.seq for directive in cluster.members[0].directives] == [before.seq - 1, after.seq]
        await verify_everything(log.store)


async def test_sequencer_key_of_a_refused_request_is_not_used_up(tmp_path: Path) -> None:
    key = IdempotencyKey("admin", "key", seed("content"))
    async with open_log(tmp_path) as log:
        with pytest.raises(PolicyRejected):
            await log.sequencer.submit(make_submission((make_policy_event(document=b"{}"),), key))
        assert not (await log.sequencer.submit(make_submission((make_policy_event(),), key))).is_replay


async def test_sequencer_record_larger_than_any_persons_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_builder, "MAX_CLUSTER_DIRECTIVES", 3)
    monkeypatch.setattr(batch_builder, "MAX_CLUSTER_MEMBERS", 3)
    async with open_log(tmp_path) as log:
        for number in range(3):
            await log.sequencer.submit(make_submission((make_directive("ann", purpose=f"purpose-{number}"),)))
        with pytest.raises(ClusterTooLarge, match="more than 3 directives"):
            await log.sequencer.submit(make_submission((make_directive("ann", kind=1, purpose="purpose-4"),)))
        with pytest.raises(ClusterTooLarge, match="more than 3 directives"):
            await log.sequencer.submit(make_submission((make_directive("bob"), make_link("ann", "bob"))))
        links = make_submission(tuple(make_link(f"person-{number}", f"person-{number + 1}") for number in range(3)))
        with pytest.raises(ClusterTooLarge, match="more than 3 identifiers"):
            await log.sequencer.submit(links)
        await verify_everything(log.store)


async def test_sequencer_denial_and_restriction_are_never_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_log(tmp_path) as log:
        await log.sequencer.submit(make_submission((make_link("ann", "bob"), make_directive("ann", kind=1))))
        for name in ("MAX_CLUSTER_DIRECTIVES", "MAX_CLUSTER_MEMBERS", "MAX_MEMBER_GRANTS"):
            monkeypatch.setattr(batch_builder, name, 0)
        restriction = RestrictionEvent(origin=ORIGIN, token=token_of("ann"), restricted=True, proof=0, occurred_at_ms=1)
        denials = [make_directive("ann", kind=kind, purpose=f"purpose-{kind}") for kind in (2, 3)]
        for event in (restriction, *denials, make_unlink("ann", "bob")):
            await log.sequencer.submit(make_submission((event,)))
        await verify_everything(log.store)


async def test_sequencer_grant_too_many_under_one_identifier_is_refused_and_one_in_place_of_another_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_builder, "MAX_MEMBER_GRANTS", 2)
    async with open_log(tmp_path) as log:
        for purpose in ("purpose-1", "purpose-2", "purpose-2"):
            await log.sequencer.submit(make_submission((make_directive("ann", kind=1, purpose=purpose),)))
        with pytest.raises(ClusterTooLarge, match="more than 2 grants"):
            await log.sequencer.submit(make_submission((make_directive("ann", kind=1, purpose="purpose-3"),)))
        await log.sequencer.submit(make_submission((make_directive("bob", kind=1), make_link("ann", "bob"))))
        await verify_everything(log.store)


async def test_sequencer_submission_without_events_or_for_another_log_is_refused(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        with pytest.raises(InvalidRequest, match="events"):
            await log.sequencer.submit(make_submission(()))
        with pytest.raises(InvalidRequest, match="origin"):
            await log.sequencer.submit(make_submission((make_directive("ann", origin="log.example.com/other"),)))
        assert log.sequencer.head.size == 1


async def test_sequencer_event_that_cannot_be_written_is_its_callers_failure_alone(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        submissions = [
            make_request("ann"),
            make_submission((make_directive("eve", token=b"short"),)),
            make_request("bob"),
        ]
        results = await asyncio.gather(*map(log.sequencer.submit, submissions), return_exceptions=True)

        assert [type(result) for result in results] == [Accepted, ValueError, Accepted]


async def test_sequencer_flood_is_refused_beyond_the_bound(tmp_path: Path) -> None:
    async with open_log(tmp_path, SequencerLimits(resign_seconds=3600, max_waiting_requests=10)) as log:
        results = await asyncio.gather(
            *(log.sequencer.submit(make_request(f"person-{n}")) for n in range(15)), return_exceptions=True
        )
        assert [type(result) for result in results] == [Accepted] * 10 + [Overloaded] * 5
        await log.sequencer.submit(make_request("later"))


async def test_sequencer_caller_that_went_away_before_its_turn_leaves_no_entry(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        gone = asyncio.create_task(log.sequencer.submit(make_request("ann")))
        await asyncio.sleep(0)
        gone.cancel()
        await log.sequencer.submit(make_request("bob"))

        assert await log.sequencer.find_cluster(token_of("ann")) is None


async def test_sequencer_that_has_to_stop_leaves_nobody_waiting(tmp_path: Path) -> None:
    async with open_log(tmp_path, SequencerLimits(resign_seconds=3600, max_batch_events=2)) as log:
        await log.sequencer.submit(make_request("ann"))
        async with log.store._database.writing() as connection:
            await connection.execute("UPDATE cluster SET sealed = zeroblob(40)")
        requests = [make_request("ann", key="again"), make_request("bob"), make_request("cid")]
        results = await asyncio.gather(*map(log.sequencer.submit, requests), return_exceptions=True)

        assert [type(result) for result in results] == [CorruptLog, ShuttingDown, ShuttingDown]
        with pytest.raises(CorruptLog):
            await log.sequencer.wait()


async def test_sequencer_close_answers_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    store = await open_store(tmp_path)
    sequencer = make_sequencer(store, FakeClock())
    await sequencer.start()
    waiting = [asyncio.create_task(sequencer.submit(make_request(f"person-{n}"))) for n in range(5)]
    await asyncio.sleep(0)
    await sequencer.close()

    assert [type(task.result()) for task in waiting] == [Accepted] * 5
    with pytest.raises(ShuttingDown):
        await sequencer.submit(make_request("late"))
    with pytest.raises(ShuttingDown):
        await sequencer.append_alone(make_state_root)
    await sequencer.wait()
    await store.close()


async def test_sequencer_checkpoint_is_signed_anew_while_nothing_happens(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        before = log.sequencer.head
        seen: list[int] = []
        end_watch = log.sequencer.watch(lambda: seen.append(log.sequencer.head.checkpoint_time_ms))
        log.clock.advance(7_500)
        await log.sequencer.resign_now()
        head = log.sequencer.head

        assert head.checkpoint_time_ms == before.checkpoint_time_ms + 7_000
        assert head.frontier == before.frontier
        verify_note(head)
        assert seen == [head.checkpoint_time_ms]
        end_watch()
        end_watch()
        await log.sequencer.resign_now()
        assert len(seen) == 1


async def test_sequencer_idle_one_signs_anew_by_itself(tmp_path: Path) -> None:
    async with open_log(tmp_path, SequencerLimits(resign_seconds=0.001)) as log:
        log.clock.advance(60_000)
        signed = asyncio.Event()
        log.sequencer.watch(signed.set)
        await signed.wait()
        assert log.sequencer.head.checkpoint_time_ms == log.clock.now_ms()


async def make_state_root(head: StoredHead) -> Event:
    return StateRootEvent(origin=ORIGIN, size=head.size, state_root_hash=bytes(32))


async def test_sequencer_lone_entry_stands_alone_at_the_next_place(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:

        async def make_slowly(head: StoredHead) -> Event:
            # As long as a batch would need to be committed in between, many times over.
            for _ in range(100):
                await log.store.count_subjects()
            return await make_state_root(head)

        lone = asyncio.create_task(log.sequencer.append_alone(make_slowly))
        await asyncio.sleep(0)
        rest = [asyncio.create_task(log.sequencer.submit(make_request(f"person-{n}"))) for n in range(3)]
        result = await lone
        await asyncio.gather(*rest)

        assert (result.before.size, result.entry.seq, result.after.size) == (1, 2, 2)
        assert result.entry == (await log.sequencer.read_entries(2, 1))[0]
        assert log.sequencer.head.size == 8
        await verify_everything(log.store)


async def test_sequencer_lone_entry_whose_caller_went_away_is_finished(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        release = asyncio.Event()

        async def make_slowly(head: StoredHead) -> Event:
            await release.wait()
            return await make_state_root(head)

        caller = asyncio.create_task(log.sequencer.append_alone(make_slowly))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        release.set()
        await log.sequencer.submit(make_request("ann"))

        assert log.sequencer.head.size == 4


async def test_sequencer_lone_entry_that_cannot_be_made_changes_nothing(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:

        async def fail(head: StoredHead) -> Event:
            raise InvalidRequest("no entry today")

        with pytest.raises(InvalidRequest):
            await log.sequencer.append_alone(fail)
        assert log.sequencer.head.size == 1
        await log.sequencer.submit(make_request("ann"))


async def test_sequencer_reads_committed_entries_only_from_memory_or_disk(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        for number in range(3):
            await log.sequencer.submit(make_request(f"person-{number}"))
        recent = await log.sequencer.read_entries(1, 100)
    async with open_log(tmp_path) as log:
        assert await log.sequencer.read_entries(1, 100) == recent
        assert await log.sequencer.read_entries(7, 100) == recent[6:]
        for from_seq in (0, -3, 8):
            assert await log.sequencer.read_entries(from_seq, 100) == []
        assert await log.sequencer.read_entries(1, 0) == []


async def test_sequencer_stopped_intake_logs_nothing_not_even_what_is_under_way(tmp_path: Path) -> None:
    async with open_log(tmp_path) as log:
        stopped = asyncio.Event()

        async def stop_meanwhile(head: StoredHead) -> Event:
            log.sequencer.stop_intake("entries 2 to 9 are lost")
            stopped.set()
            return await make_state_root(head)

        before = log.sequencer.head
        lone = asyncio.create_task(log.sequencer.append_alone(stop_meanwhile))
        waiting = asyncio.create_task(log.sequencer.submit(make_request("ann")))
        results = await asyncio.gather(lone, waiting, return_exceptions=True)
        await stopped.wait()
        late = await asyncio.gather(log.sequencer.submit(make_request("bob")), return_exceptions=True)

        assert [(type(result), str(result)) for result in (*results, *late)] == [
            (LogBehindSidecar, "entries 2 to 9 are lost")
        ] * 3
        assert log.sequencer.head.frontier == before.frontier
        assert len(await verify_everything(log.store)) == 1
        # What is there is vouched for all the same.
        await log.sequencer.resign_now()

        log.sequencer.resume_intake()
        assert (await log.sequencer.submit(make_request("ann"))).seq == 3
