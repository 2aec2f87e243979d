"""No import, link or act of administration turns a DENY into an ALLOW: through intake's rules, the fold and the decision."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import replace
from itertools import count, product

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.decide import Freshness, Request, decide
from consent.errors import InvalidIdentifier
from consent.state import UNKNOWN_SUBJECT
from consent.vocabulary.directive import ANY, Facts, Kind, Proof
from consent.vocabulary.reason import Effect
from feed.errors import FeedError
from feed.intake.requests import RecordDirective, RecordFact, RecordLink, RecordRestriction, RecordUnlink, Subject
from feed.intake.sources import Source
from feed.ports import Accepted
from tests.unit.feed.intake.desk import HOUR_MS, IMPORT, METHODS, NOW_MS, WEB, Desk, make_policy, token_of

Step = RecordDirective | RecordLink | RecordUnlink | RecordFact | RecordRestriction

# The administrator holds nobody's proof.
ADMINISTRATOR = Source("administrator", {"*"}, {"*"}, max_proof=0, max_assurance=2, methods=METHODS)
PEOPLE = [Subject("user", name) for name in "abc"]
PURPOSES = ["marketing", "newsletter", "analytics", ANY]
ASKED = ["marketing", "newsletter", "analytics"]
STATED = [Facts(), Facts(jurisdictions=("US",)), Facts(age_band=3, jurisdictions=("US",))]

subjects = st.sampled_from(PEOPLE)
times = st.sampled_from([0, NOW_MS - 2 * HOUR_MS, NOW_MS - HOUR_MS, NOW_MS + HOUR_MS])
weak_proofs = st.sampled_from([Proof.NONE, Proof.LINK])
proofs = st.sampled_from(Proof)


def directives(kinds: st.SearchStrategy[Kind], proof: st.SearchStrategy[Proof]) -> st.SearchStrategy[RecordDirective]:
    return st.builds(
        RecordDirective,
        idempotency_key=st.just(""),
        subject=subjects,
        purpose=st.sampled_from(PURPOSES),
        kind=kinds,
        proof=proof,
        assurance=st.integers(0, 2),
        occurred_at_ms=times,
    )


def grants(proof: st.SearchStrategy[Proof]) -> st.SearchStrategy[RecordDirective]:
    return st.builds(
        replace,
        directives(st.just(Kind.GRANT), proof),
        subtree=st.booleans(),
        explicit=st.booleans(),
        granted_by=st.integers(1, 2),
        notice_version=st.integers(0, 2),
        expires_at_ms=st.sampled_from([None, NOW_MS + 24 * HOUR_MS]),
    )


def circumstances(proof: st.SearchStrategy[Proof]) -> st.SearchStrategy[Step]:
    links = st.builds(RecordLink, idempotency_key=st.just(""), left=subjects, right=subjects, proof=proof)
    facts = st.builds(
        RecordFact,
        idempotency_key=st.just(""),
        subject=subjects,
        age_band=st.integers(0, 3),
        jurisdictions=st.sampled_from([(), ("US",), ("DE",), ("US", "DE")]),
        proof=proof,
    )
    restrictions = st.builds(
        RecordRestriction, idempotency_key=st.just(""), subject=subjects, restricted=st.booleans(), proof=proof
    )
    return links | facts | restrictions


denials = directives(st.sampled_from([kind for kind in Kind if kind != Kind.GRANT]), proofs)
unlinks = st.builds(RecordUnlink, idempotency_key=st.just(""), left=subjects, right=subjects)
by_the_subject = st.lists(denials | grants(proofs) | circumstances(proofs), max_size=8)
by_others = st.lists(
    st.tuples(
        st.sampled_from([IMPORT, ADMINISTRATOR]), denials | grants(proofs) | circumstances(weak_proofs) | unlinks
    ),
    min_size=1,
    max_size=6,
)


def record(desk: Desk, source: Source, step: Step, key: str) -> Awaitable[Accepted]:
    recorder = desk.recorder
    match replace(step, idempotency_key=key):
        case RecordDirective() as directive:
            return recorder.record_directive(source, directive)
        case RecordLink() as link:
            return recorder.record_link(source, link)
        case RecordUnlink() as unlink:
            return recorder.record_unlink(source, unlink)
        case RecordFact() as fact:
            return recorder.record_fact(source, fact)
        case RecordRestriction() as restriction:
            return recorder.record_restriction(source, restriction)


async def take(desk: Desk, source: Source, step: Step, key: str) -> None:
    # A refused step changes nothing; that it is refused is what other tests are for.
    with suppress(FeedError, InvalidIdentifier):
        await record(desk, source, step, key)


def denied(desk: Desk) -> set[tuple[Subject, str, Facts, bool]]:
    """Every question that is answered DENY, on a fresh copy."""
    policy, freshness = desk.log.policy, Freshness(len(desk.log.entries), 0)
    assert policy is not None
    found = set()
    for person, purpose, facts, sec_gpc in product(PEOPLE, ASKED, STATED, [False, True]):
        token = token_of(person)
        cluster = desk.log.clusters.get(token)
        view = cluster.view(token) if cluster is not None else UNKNOWN_SUBJECT
        request = Request((purpose,), NOW_MS + HOUR_MS, facts=facts, sec_gpc=sec_gpc)
        if decide(request, [view], policy, freshness).effect is Effect.DENY:
            found.add((person, purpose, facts, sec_gpc))
    return found


@settings(max_examples=150)
@given(by_the_subject, by_others)
def test_denials_stand_whatever_imports_links_and_administrators_do(
    subject_steps: list[Step], other_steps: list[tuple[Source, Step]]
) -> None:
    async def run() -> None:
        desk = await Desk().open(make_policy())
        keys = map(str, count())
        for step in subject_steps:
            await take(desk, WEB, step, next(keys))
        before = denied(desk)
        for source, step in other_steps:
            await take(desk, source, step, next(keys))
            after = denied(desk)
            assert before <= after, f"{type(step).__name__} by {source.name} turned a DENY into an ALLOW"
            before = after

    asyncio.run(run())
