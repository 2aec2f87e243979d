"""The small language of the worked examples in docs/decision.md, and what the code makes of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from consent.decide import Decision, Freshness, Request, decide
from consent.event import DirectiveEvent, Event, FactEvent, LinkEvent, OverrideEvent, RestrictionEvent, UnlinkEvent
from consent.policy import Policy
from consent.state import UNKNOWN_SUBJECT, Cluster, SubjectView, fold_event
from consent.vocabulary.directive import AgeBand, Facts, GrantedBy, Kind
from consent.vocabulary.subject import Tokeniser

ORIGIN = "example.org/log"
DAY_MS = 1_768_435_200_000
"""2026-01-15T00:00:00Z."""
NOON = "12:00"

_TOKENISER = Tokeniser([bytes(32)])


@dataclass(frozen=True, slots=True)
class Answered:
    """One question of an example: as written, as the page answers it, and as the code does."""

    line: str
    expected: str
    decided: str


def answer_example(block: str, policy: Policy) -> Iterator[Answered]:
    """Fold a block's entries and answer its questions, in order."""
    state: dict[bytes, Cluster] = {}
    for line in block.splitlines():
        first, *words = line.split()
        if first == "?":
            question, _, expected = line.partition("->")
            decision = _answer(question.split()[1:], state, policy)
            yield Answered(line, expected.strip(), format_decision(decision))
        else:
            state.update(fold_event(_read_event(words), int(first), state.get))


def format_decision(decision: Decision) -> str:
    """An answer as the examples write it."""
    by = f" by {decision.deciding_seq}" if decision.deciding_seq else ""
    return f"{decision.effect} {decision.reason}{by}"


def _token(subject: str) -> bytes:
    return _TOKENISER.token("user", subject)


def _options(words: list[str]) -> dict[str, str]:
    """`name=value` and bare names, which stand for yes."""
    pairs = (word.partition("=") for word in words)
    return {name: value or "yes" for name, _, value in pairs}


def _at_ms(time: str) -> int:
    hours, minutes = time.split(":")
    return DAY_MS + (int(hours) * 60 + int(minutes)) * 60_000


def _read_event(words: list[str]) -> Event:
    subject, verb, *rest = words
    token = _token(subject)
    match verb:
        case "link":
            options = _options(rest[1:])
            proof = int(options["proof"])
            return LinkEvent(origin=ORIGIN, left=token, right=_token(rest[0]), proof=proof, occurred_at_ms=DAY_MS)
        case "unlink":
            return UnlinkEvent(origin=ORIGIN, left=token, right=_token(rest[0]), occurred_at_ms=DAY_MS)
        case "fact":
            return _read_fact(token, _options(rest))
        case "restrict" | "release":
            options = _options(rest[1:])
            proof = int(options.get("proof", 0))
            is_set = verb == "restrict"
            return RestrictionEvent(
                origin=ORIGIN, token=token, restricted=is_set, proof=proof, occurred_at_ms=_at_ms(rest[0])
            )
        case "override":
            seq = int(_options(rest[1:])["objection"])
            return OverrideEvent(
                origin=ORIGIN, token=token, objection_seq=seq, occurred_at_ms=DAY_MS, purpose=rest[0], ground="example"
            )
        case _:
            return _read_directive(token, Kind[verb.upper()], rest)


def _read_fact(token: bytes, options: Mapping[str, str]) -> FactEvent:
    return FactEvent(
        origin=ORIGIN,
        token=token,
        age_band=AgeBand[options.get("age", "unspecified").upper()],
        proof=int(options.get("proof", 0)),
        occurred_at_ms=DAY_MS,
        jurisdictions=_places(options),
    )


def _read_directive(token: bytes, kind: Kind, words: list[str]) -> DirectiveEvent:
    purpose, time, *rest = words
    options = _options(rest)
    return DirectiveEvent(
        origin=ORIGIN,
        token=token,
        kind=kind,
        occurred_at_ms=_at_ms(time),
        purpose=purpose,
        proof=int(options.get("proof", 0)),
        assurance=int(options.get("assurance", 0)),
        subtree="subtree" in options,
        explicit="explicit" in options,
        granted_by=GrantedBy[options.get("by", "self").upper()],
        notice_version=int(options.get("notice", 0)),
        recipient=options.get("to", "*"),
        expires_at_ms=_at_ms(options["expires"]) if "expires" in options else None,
    )


def _places(options: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(options["in"].split(",")) if "in" in options else ()


def _answer(words: list[str], state: Mapping[bytes, Cluster], policy: Policy) -> Decision:
    subjects, purposes, *rest = words
    options = _options(rest)
    request = Request(
        purposes=tuple(purposes.split("+")),
        now_ms=_at_ms(NOON),
        facts=Facts(AgeBand[options.get("age", "unspecified").upper()], _places(options)),
        sec_gpc="gpc" in options,
        recipient=options.get("to", "*"),
        min_seq=int(options.get("known", 0)),
    )
    tokens = [_token(subject) for subject in subjects.split("+")]
    size = 1 + max((d.seq for c in state.values() for m in c.members for d in m.directives), default=0)
    freshness = Freshness(size, age_ms=1000 * int(options.get("old", 1)))
    return decide(request, [_view(state.get(token), token) for token in tokens], policy, freshness)


def _view(cluster: Cluster | None, token: bytes) -> SubjectView:
    return UNKNOWN_SUBJECT if cluster is None else cluster.view(token)
