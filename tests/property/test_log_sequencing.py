"""Whatever comes in whatever order and grouping: the log is gapless, answers repetitions once, and is the fold of its entries."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.authority import NotAuthorised
from consent.event import Event, PolicyEvent, parse_event
from consent.state import Cluster
from feed.errors import FeedError, IdempotencyKeyReused, PolicyConflict, PolicyRejected
from feed.log_store.port import EMPTY_STATE_SUM
from feed.log_store.state_sum import add_records, subtract_records
from feed.ports import Accepted, IdempotencyKey, Submission
from feed.sequencer import SequencerLimits
from tests.fakes.feed_log import (
    ORIGIN,
    make_directive,
    make_link,
    make_policy,
    make_submission,
    make_unlink,
    open_log,
    read_clusters,
    seed,
    verify_everything,
)

NAMES = ("ann", "bob", "cid", "dan")

names = st.sampled_from(NAMES)
directives = st.builds(
    make_directive,
    names,
    kind=st.integers(1, 6),
    purpose=st.sampled_from(("marketing", "newsletter", "*")),
    occurred_at_ms=st.integers(0, 3),
    proof=st.integers(0, 3),
)
policies = st.builds(
    lambda version, document: PolicyEvent(
        origin=ORIGIN, version=version, replaces_version=version - 1, document=document or make_policy(version)
    ),
    st.integers(1, 3),
    st.sampled_from((b"", b"", b"{}")),
)
links = st.builds(make_link, names, names, st.integers(0, 3))
unlinks = st.builds(make_unlink, names, names)
keys = st.none() | st.builds(
    lambda source, key, content: IdempotencyKey(source, key, seed(content)),
    st.sampled_from(("web", "shop")),
    st.sampled_from(("k1", "k2", "k3")),
    st.sampled_from(("one", "two")),
)
events: st.SearchStrategy[Event] = directives | links | unlinks | policies
submissions = st.builds(
    # Now and then nobody has signed for what needs it.
    lambda submit, said, key: submit(said, key),
    st.sampled_from((make_submission, make_submission, make_submission, Submission)),
    st.lists(events, min_size=1, max_size=3).map(tuple),
    keys,
)

Answer = Accepted | FeedError | NotAuthorised


async def submit_in_rounds(
    directory: Path, rounds: Sequence[Sequence[Submission]], max_batch_events: int
) -> tuple[list[Answer], dict[bytes, Cluster]]:
    """Submits each round at once, with a restart in the middle, and verifies the log at the end."""
    limits = SequencerLimits(resign_seconds=3600, max_batch_events=max_batch_events)
    answers: list[Answer] = []
    for half in (rounds[: len(rounds) // 2], rounds[len(rounds) // 2 :]):
        async with open_log(directory, limits) as log:
            for submitted in half:
                results = await asyncio.gather(*map(log.sequencer.submit, submitted), return_exceptions=True)
                for submission, result in zip(submitted, results, strict=True):
                    if isinstance(result, NotAuthorised):
                        assert submission.attestations == ()
                    else:
                        assert isinstance(result, Accepted | IdempotencyKeyReused | PolicyConflict | PolicyRejected)
                    answers.append(result)
    async with open_log(directory, limits) as log:
        entries = await verify_everything(log.store)
        verify_answers([one for submitted in rounds for one in submitted], answers, len(entries))
        for submission, answer in zip((one for each in rounds for one in each), answers, strict=True):
            if isinstance(answer, Accepted) and not answer.is_replay:
                first = answer.seq - len(submission.events)
                logged = [parse_event(entry.event_bytes) for entry in entries[first : answer.seq]]
                assert logged == list(submission.events)
        return answers, await read_clusters(log.store)


def verify_answers(submitted: Sequence[Submission], answers: Sequence[Answer], size: int) -> None:
    """Checks that each key was used once, and that the entries are those of the accepted requests and nothing else."""
    first_answers: dict[tuple[str, str], tuple[bytes, int]] = {}
    logged = 1
    for submission, answer in zip(submitted, answers, strict=True):
        key = submission.idempotency
        known = first_answers.get((key.source, key.key)) if key is not None else None
        if known is not None and key is not None:
            assert isinstance(answer, Accepted if known[0] == key.digest else IdempotencyKeyReused)
            assert not isinstance(answer, Accepted) or (answer.seq, answer.is_replay) == (known[1], True)
        elif isinstance(answer, Accepted):
            assert not answer.is_replay
            logged += len(submission.events)
            if key is not None:
                first_answers[key.source, key.key] = (key.digest, answer.seq)
    assert logged == size


@settings(max_examples=20)
@given(st.lists(st.lists(submissions, min_size=1, max_size=6), min_size=1, max_size=5), st.integers(1, 12))
def test_log_any_submissions_in_any_grouping_give_one_gapless_log(
    rounds: list[list[Submission]], max_batch_events: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        grouped = asyncio.run(submit_in_rounds(Path(directory), rounds, max_batch_events))
    one_by_one = [[submission] for submitted in rounds for submission in submitted]
    with tempfile.TemporaryDirectory() as directory:
        alone = asyncio.run(submit_in_rounds(Path(directory), one_by_one, 1))
    # How requests fall into commits changes neither an answer nor the state.
    assert [describe(answer) for answer in grouped[0]] == [describe(answer) for answer in alone[0]]
    assert grouped[1] == alone[1]


def describe(answer: Answer) -> object:
    return answer if isinstance(answer, Accepted) else type(answer)


records = st.lists(st.binary(max_size=4))


@given(records, records)
def test_state_sum_depends_on_what_is_in_it_and_on_nothing_else(kept: list[bytes], gone: list[bytes]) -> None:
    whole = add_records(add_records(EMPTY_STATE_SUM, gone), kept)

    assert subtract_records(whole, reversed(gone)) == add_records(EMPTY_STATE_SUM, kept)
