"""Cases through the fold and the pure decision function."""

from collections.abc import Sequence

from consent.decide import Decision, Freshness, Request, decide
from consent.policy import Policy
from consent.state import UNKNOWN_SUBJECT, Cluster, fold_event
from consent.vocabulary.directive import Facts
from consent.vocabulary.subject import Tokeniser
from tests.conformance.cases import NAMESPACE, Case, identifiers_of, make_events

_TOKENISER = Tokeniser([bytes(range(32))])


def decide_case(policy: Policy, case: Case) -> Decision:
    """The answer of the pure function to one case."""
    tokens = {name: _TOKENISER.token(NAMESPACE, case.identifier_value(name)) for name in identifiers_of(case)}
    clusters: dict[bytes, Cluster] = {}
    # Only the first event's seq matters: no sequence number of the fold may exceed the log's length.
    for seq, event in enumerate(make_events(case, tokens, first_seq=1), start=1):
        clusters.update(fold_event(event, seq, clusters.get))
    views = []
    for name in case.query.identifiers:
        cluster = clusters.get(tokens[name])
        views.append(UNKNOWN_SUBJECT if cluster is None else cluster.view(tokens[name]))
    query = case.query
    request = Request(
        purposes=query.purposes,
        now_ms=query.now_ms,
        is_well_formed=bool(query.identifiers),
        is_caller_permitted=query.is_caller_permitted,
        facts=Facts(query.age_band, query.jurisdictions),
        sec_gpc=query.sec_gpc,
        recipient=query.recipient,
        data_categories=query.data_categories,
        min_seq=query.min_seq,
    )
    age_ms = None if case.feed_time_ms is None else query.now_ms - case.feed_time_ms
    return decide(request, views if age_ms is not None else [UNKNOWN_SUBJECT], policy, Freshness(case.log_size, age_ms))


def run(policy: Policy, cases: Sequence[Case]) -> list[str]:
    """Run all cases; returns one line for each that failed."""
    failures = []
    for case in cases:
        decision = decide_case(policy, case)
        if (decision.effect.value, decision.reason.value) != case.expected:
            failures.append(f"{case.name}: expected {'/'.join(case.expected)}, got {decision.effect}/{decision.reason}")
    return failures
