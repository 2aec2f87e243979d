"""A new key epoch changes tokens and nothing else: not what is decided, for nobody, whatever was said before or is said after."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from consent.decide import Request, decide
from consent.event import Event
from consent.key_epoch import rekey_cluster, rekey_clusters, rekey_event, rekey_record
from consent.state import Cluster
from consent.state_record import format_cluster, parse_cluster
from consent.vocabulary.subject import Rekeyer, Tokeniser
from sidecar.ports import VerifiedBatch
from tests.fakes.cache_place import CachePlace, assert_holds
from tests.fakes.histories import FRESH, ORIGIN, POLICIES, TOKENS, fold, histories, requests, views_of
from tests.fakes.log_builder import LogBuilder

KEYS = tuple(bytes([number]) * 32 for number in range(1, 4))
REKEYERS = tuple(map(Rekeyer, KEYS[1:]))


def lead(event: Event) -> Event:
    for rekeyer in REKEYERS:
        event = rekey_event(event, rekeyer)
    return event


def lead_token(token: bytes) -> bytes:
    for rekeyer in REKEYERS:
        token = rekeyer.rekey(token)
    return token


@given(histories(), histories(), requests(), st.sampled_from(POLICIES), st.lists(st.sampled_from(TOKENS), min_size=1))
def test_key_epoch_every_decision_is_the_same_before_and_after(
    history: list[Event], later: list[Event], request: Request, policy: object, asked: list[bytes]
) -> None:
    old = fold(history)
    new: dict[bytes, Cluster] = old
    for rekeyer in REKEYERS:
        new = rekey_clusters(new, rekeyer)
    led = [lead_token(token) for token in asked]
    assert decide(request, views_of(old, asked), policy, FRESH) == decide(request, views_of(new, led), policy, FRESH)  # type: ignore[arg-type]

    # What is said in the new epoch meets what was said in the old one.
    old = fold(later, old, len(history) + 1)
    new = fold([lead(event) for event in later], new, len(history) + 1)
    assert decide(request, views_of(old, asked), policy, FRESH) == decide(request, views_of(new, led), policy, FRESH)  # type: ignore[arg-type]


@given(histories())
def test_key_epoch_rekeyed_records_are_canonical_and_hold_no_older_token(history: list[Event]) -> None:
    for cluster in fold(history).values():
        record = format_cluster(rekey_cluster(cluster, REKEYERS[0]))
        assert format_cluster(parse_cluster(record)) == record
        tokens = tuple(member.token for member in parse_cluster(record).members)
        assert rekey_record(format_cluster(cluster), REKEYERS[0]) == (record, tokens)
        assert not [token for token in TOKENS if token in record]


@given(st.sampled_from(("email", "user")), st.emails(), st.integers(0, 2))
def test_key_epoch_token_is_led_to_what_its_identifier_gives(namespace: str, value: str, epoch: int) -> None:
    newest = Tokeniser(KEYS)
    assert newest.lead(Tokeniser(KEYS[: epoch + 1]).token(namespace, value), epoch) == newest.token(namespace, value)


@settings(max_examples=15, deadline=None)
@given(histories(), histories(), histories(), st.booleans(), st.integers(0, 2))
async def test_key_epoch_cache_answers_as_the_log_whatever_way_it_comes(
    first: list[Event], second: list[Event], third: list[Event], merges: bool, cuts: int
) -> None:
    """Two epochs, in one batch or in several, over rows, spilled records and an overlay."""
    log = LogBuilder(ORIGIN)
    with tempfile.TemporaryDirectory() as directory:
        async with CachePlace(Path(directory)) as place:
            cache = await place.open()
            await cache.apply(log.batch(log.next_epoch(), log.directive("bystander"), *first))
            if merges:
                await cache.merge()
            pending = []
            for number, history in enumerate((second, third)):
                pending += log.append(*map(log.lead, history))
                pending += log.append(log.next_epoch())
                pending += log.append(*map(log.lead, history))
                if number >= cuts:
                    await cache.apply(VerifiedBatch(pending, log.head()), key_ring=log.key_ring())
                    pending = []
            if pending:
                await cache.apply(VerifiedBatch(pending, log.head()), key_ring=log.key_ring())
            assert_holds(cache, log)
            assert cache.key_ring == log.key_ring()
            cache = await place.reopen(cache)
            assert_holds(cache, log)
            await cache.merge()
            assert_holds(cache, log)
