"""Vector files (the shape of `shared/vectors/decision.json`) as cases that both runners understand."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from consent.event import DirectiveEvent, Event, FactEvent, LinkEvent, OverrideEvent, RestrictionEvent
from consent.policy import Policy, policy_from_mapping
from consent.vocabulary.directive import AgeBand, GrantedBy, Kind, Proof

ORIGIN = "conformance.example/log"
NAMESPACE = "user"
_FAR_BACK_MS = 0


@dataclass(frozen=True, slots=True)
class Query:
    """The question of a case; fields as in the file, times in Unix ms."""

    identifiers: tuple[str, ...]
    purposes: tuple[str, ...]
    now_ms: int
    jurisdictions: tuple[str, ...]
    sec_gpc: bool
    age_band: int
    min_seq: int
    is_caller_permitted: bool
    recipient: str
    data_categories: frozenset[str]


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        number: Its place in the file, from 0.
        raw: As in the file.
        query: The question.
        feed_time_ms: Time of the newest verified checkpoint, None for none.
        log_size: Length of the log that the case speaks of.
        expected: (effect, reason).
    """

    number: int
    raw: Mapping[str, Any]
    query: Query
    feed_time_ms: int | None
    log_size: int
    expected: tuple[str, str]

    @property
    def name(self) -> str:
        """The case's own name."""
        return str(self.raw["name"])

    def identifier_value(self, identifier: str) -> str:
        """The value that stands for an identifier of this case and of no other."""
        return f"case-{self.number}:{identifier.encode().hex()}"


def load_cases(path: Path) -> tuple[Policy, list[Case]]:
    """Read a vector file: its policy and its cases."""
    document = json.loads(path.read_text(encoding="utf-8"))
    purposes = {name: _within(raw, document["purposes"]) for name, raw in document["purposes"].items()}
    others = {key: value for key, value in document.items() if key not in ("cases", "purposes")}
    policy = policy_from_mapping({**others, "purposes": purposes})
    return policy, [_read_case(number, raw) for number, raw in enumerate(document["cases"])]


def _within(purpose: Mapping[str, Any], purposes: Mapping[str, Any]) -> Mapping[str, Any]:
    """A purpose without the parents that the file does not hold (DPV names some outside its purposes module); no case reaches them."""
    return {**purpose, "parents": [parent for parent in purpose["parents"] if parent in purposes]}


def to_ms(text: str) -> int:
    """Unix ms of an ISO 8601 time."""
    moment = datetime.fromisoformat(text)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _read_case(number: int, raw: Mapping[str, Any]) -> Case:
    query = raw["query"]
    return Case(
        number=number,
        raw=raw,
        query=Query(
            identifiers=tuple(query["identifiers"]),
            purposes=tuple(query["purposes"]),
            now_ms=to_ms(query["now"]),
            jurisdictions=tuple(query["jurisdictions"]),
            sec_gpc=query["sec_gpc"],
            age_band=_age_band(query["age_band"]),
            min_seq=query["min_seq"],
            is_caller_permitted=query["caller_permitted"],
            recipient=query["recipient"],
            data_categories=frozenset(query["data_categories"]),
        ),
        feed_time_ms=None if raw["feed_time"] is None else to_ms(raw["feed_time"]),
        log_size=raw["log_size"],
        expected=(raw["expect"]["effect"], raw["expect"]["reason"]),
    )


def _age_band(name: str | None) -> int:
    return AgeBand[(name or "unspecified").upper()]


def make_events(case: Case, tokens: Mapping[str, bytes], first_seq: int) -> Iterator[Event]:
    """The events of a case in the order to be logged: links first, then directives by seq, then what refers to them.

    Args:
        case: The case.
        tokens: Token of each identifier of the case.
        first_seq: Seq that the first event will get in the log.
    """
    clusters: dict[str, list[str]] = {}
    for identifier, cluster in case.raw["links"].items():
        clusters.setdefault(cluster, []).append(identifier)
    links = [(members[0], other) for members in clusters.values() for other in members[1:]]
    for left, right in links:
        yield LinkEvent(
            origin=ORIGIN,
            left=tokens[left],
            right=tokens[right],
            proof=Proof.AUTHENTICATED,
            occurred_at_ms=_FAR_BACK_MS,
        )
    seqs: dict[int, int] = {}
    for offset, raw in enumerate(sorted(case.raw["events"], key=lambda event: event["seq"])):
        seqs[raw["seq"]] = first_seq + len(links) + offset
        yield _directive(raw, tokens[raw["identifier"]])

    def named(cluster: str) -> bytes:
        return tokens[clusters[cluster][0] if cluster in clusters else cluster]

    for cluster in case.raw["restricted"]:
        yield RestrictionEvent(
            origin=ORIGIN, token=named(cluster), restricted=True, proof=0, occurred_at_ms=_FAR_BACK_MS
        )
    for cluster, facts in case.raw["facts"].items():
        yield FactEvent(
            origin=ORIGIN,
            token=named(cluster),
            age_band=_age_band(facts["age_band"]),
            proof=Proof.AUTHENTICATED,
            occurred_at_ms=_FAR_BACK_MS,
            jurisdictions=tuple(sorted(facts["jurisdictions"])),
        )
    for override in case.raw["objection_overrides"]:
        yield OverrideEvent(
            origin=ORIGIN,
            token=named(override["cluster"]),
            objection_seq=seqs.get(override["seq"], 0),
            occurred_at_ms=_FAR_BACK_MS,
            purpose=override["purpose"],
            ground="conformance",
        )


def identifiers_of(case: Case) -> list[str]:
    """Every identifier that a case names, each once."""
    raw = case.raw
    named = [*case.query.identifiers, *raw["links"], *(event["identifier"] for event in raw["events"])]
    clusters = set(raw["links"].values())
    referred = [*raw["restricted"], *raw["facts"], *(override["cluster"] for override in raw["objection_overrides"])]
    return list(dict.fromkeys([*named, *(name for name in referred if name not in clusters)]))


def _directive(raw: Mapping[str, Any], token: bytes) -> DirectiveEvent:
    return DirectiveEvent(
        origin=ORIGIN,
        token=token,
        kind=Kind[raw["kind"].upper()],
        occurred_at_ms=to_ms(raw["occurred_at"]),
        purpose=raw["purpose"],
        proof=raw["proof"],
        assurance=raw["assurance"],
        subtree=raw["subtree"],
        explicit=raw["explicit"],
        granted_by=GrantedBy[raw["granted_by"].upper()],
        notice_version=raw["notice_version"],
        recipient=raw["recipient"],
        expires_at_ms=None if raw["expires_at"] is None else to_ms(raw["expires_at"]),
    )
