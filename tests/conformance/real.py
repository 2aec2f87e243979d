"""Cases through a real feed and a real sidecar over gRPC, with the clocks set by the cases.

Cases that speak of the same times share one feed, one log and one sidecar; each has identifiers of its own.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grpc
from consentry.decision.v1 import decision_pb2, decision_pb2_grpc
from consentry.event.v1 import event_pb2

from consent.event import PolicyEvent
from consent.policy import Policy, format_policy
from consent.vocabulary.subject import Tokeniser
from feed.runtime import RunningFeed, running_feed
from feed.signing.key_store import load_keys
from sidecar.runtime import running_sidecar
from tests.conformance.cases import NAMESPACE, ORIGIN, Case, Query, identifiers_of, make_events
from tests.fakes.clock import FakeClock
from tests.fakes.installation import TestInstallation, install
from tests.fakes.signers import Signers

_SYNC_SECONDS = 60.0
_FAR_AHEAD = 1_000_000
_CALL_SECONDS = 10.0
_ANY_TIME_MS = 1_700_000_000_000


async def run(policy: Policy, cases: Sequence[Case], on_case: Callable[[], None]) -> list[str]:
    """Run all cases; returns one line for each that failed."""
    by_times: dict[tuple[int, int | None], list[Case]] = defaultdict(list)
    for case in cases:
        by_times[case.query.now_ms, case.feed_time_ms].append(case)
    failures = []
    for (now_ms, feed_time_ms), group in by_times.items():
        with tempfile.TemporaryDirectory(prefix="csty-") as folder:
            failures += await _run_group(install(Path(folder)), policy, group, now_ms, feed_time_ms, on_case)
    return failures


async def _run_group(
    installation: TestInstallation,
    policy: Policy,
    cases: Sequence[Case],
    now_ms: int,
    feed_time_ms: int | None,
    on_case: Callable[[], None],
) -> list[str]:
    if feed_time_ms is None:
        # No verified snapshot: the feed is never reached, and the policy comes from the signed bootstrap file.
        return await _ask_all(installation, policy, cases, now_ms, 0, on_case)
    async with running_feed(installation.feed_settings(), clock=FakeClock(feed_time_ms)) as feed:
        document = format_policy(policy)
        await feed.log.submit(
            installation.signers.submit(
                [PolicyEvent(origin=ORIGIN, version=policy.version, replaces_version=0, document=document)]
            )
        )
        tokeniser = Tokeniser([load_keys(installation.directory / "keys", ORIGIN).subject_key])
        for case in cases:
            await _log_case(feed, case, tokeniser, installation.signers)
        return await _ask_all(installation, policy, cases, now_ms, feed.log.head.size, on_case)


async def _log_case(feed: RunningFeed, case: Case, tokeniser: Tokeniser, signers: Signers) -> None:
    tokens = {name: tokeniser.token(NAMESPACE, case.identifier_value(name)) for name in identifiers_of(case)}
    first_seq = feed.log.head.size + 1
    events = list(make_events(case, tokens, first_seq))
    if events:
        accepted = await feed.log.submit(signers.submit(events))
        assert accepted.seq == first_seq + len(events) - 1


async def _ask_all(
    installation: TestInstallation,
    policy: Policy,
    cases: Sequence[Case],
    now_ms: int,
    real_size: int,
    on_case: Callable[[], None],
) -> list[str]:
    settings = installation.sidecar_settings(bootstrap_policy_file=installation.sign_policy(policy))
    failures = []
    async with running_sidecar(settings, clock=FakeClock(now_ms), boot_id="conformance") as sidecar:
        if not await sidecar.cache.wait_for_size(real_size, _SYNC_SECONDS):
            raise TimeoutError("the sidecar did not catch up with the feed")
        while real_size and sidecar.cache.key_ring is None:
            await asyncio.sleep(0.01)
        stubs = {}
        channels = [grpc.aio.insecure_channel(listener.address) for listener in settings.listeners]
        for is_permitted, channel in zip((True, False), channels, strict=True):
            stubs[is_permitted] = decision_pb2_grpc.ConsentDecisionServiceStub(channel)
        for case in cases:
            stub = stubs[case.query.is_caller_permitted]
            response = await stub.Check(_make_request(case, real_size), timeout=_CALL_SECONDS)
            answer = _read_answer(response)
            if answer != case.expected:
                failures.append(f"{case.name}: expected {'/'.join(case.expected)}, got {'/'.join(answer)}")
            on_case()
        for channel in channels:
            await channel.close()
    return failures


def _make_request(case: Case, real_size: int) -> decision_pb2.CheckRequest:
    query = case.query
    values: Mapping[str, str] = {name: case.identifier_value(name) for name in query.identifiers}
    request = decision_pb2.CheckRequest(
        subject=decision_pb2.Subject(
            identifiers=[event_pb2.Identifier(namespace=NAMESPACE, value=value) for value in values.values()]
        ),
        purposes=query.purposes,
        context=_make_context(query),
    )
    if query.min_seq:
        # The case counts in a log of its own; what matters is how far beyond, or within, the log the entry is.
        ahead = query.min_seq - case.log_size
        # The log goes on by itself (the sidecar's enrolment, its receipts): what the case calls ahead stays ahead.
        seq = max(1, real_size + ahead + (_FAR_AHEAD if ahead > 0 else 0))
        request.consistency.min.CopyFrom(event_pb2.ConsistencyToken(origin=ORIGIN, seq=seq))
    return request


def _make_context(query: Query) -> decision_pb2.Context:
    return decision_pb2.Context(
        jurisdictions=query.jurisdictions,
        age_band=event_pb2.AgeBand.ValueType(query.age_band),
        sec_gpc=query.sec_gpc,
        recipient=query.recipient,
        data_categories=sorted(query.data_categories),
    )


def _read_answer(response: decision_pb2.CheckResponse) -> tuple[str, str]:
    effect = decision_pb2.Effect.Name(response.effect).removeprefix("EFFECT_")
    return effect, decision_pb2.Reason.Name(response.reason).removeprefix("REASON_")
