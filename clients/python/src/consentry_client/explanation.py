"""Why a check was answered as it was, for people and for auditors."""

from dataclasses import dataclass

from consentry.decision.v1 import decision_pb2

from consentry_client.decision import Decision


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule that was tried, for one purpose or (empty) for the request as a whole."""

    rule: int
    purpose: str
    fired: bool
    note: str


@dataclass(frozen=True, slots=True, repr=False)
class DecidingEvent:
    """The event that decided, with the proof that the log holds it.

    Attributes:
        seq: Its place in the log.
        event_bytes: Its canonical bytes; empty where they were erased.
        opening: The 32 bytes that open its commitment; empty where they were erased.
        commitment: What is left of an erased event.
        inclusion_proof: Audit path after RFC 6962 against `tree_size` and `root_hash`.
        tree_size: Size of the tree that the proof is for.
        root_hash: Its root.
        checkpoint: The signed checkpoint for that size, where the feed had one.
    """

    seq: int
    event_bytes: bytes
    opening: bytes
    commitment: bytes
    inclusion_proof: tuple[bytes, ...]
    tree_size: int
    root_hash: bytes
    checkpoint: bytes

    def __repr__(self) -> str:
        return f"DecidingEvent(seq={self.seq})"


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer, the rules in the order in which they were tried, and the event that decided. True as the answer is.

    Attributes:
        decision: The answer; a client-only reason where no explanation was had, and then nothing else is filled.
        rules: What was tried.
        deciding_event: None where no event decided.
        proof_unavailable: The feed was away or could not prove the event; the decision stands all the same.
    """

    decision: Decision
    rules: tuple[RuleTrace, ...] = ()
    deciding_event: DecidingEvent | None = None
    proof_unavailable: bool = False

    def __bool__(self) -> bool:
        return bool(self.decision)


def read_explanation(answer: decision_pb2.ExplainResponse, decision: Decision) -> Explanation:
    """Reads what belongs to a decision that was already read."""
    rules = tuple(RuleTrace(one.rule, one.purpose, one.fired, one.note) for one in answer.rules)
    event = _read_event(answer.deciding_event) if answer.HasField("deciding_event") else None
    return Explanation(decision, rules, event, answer.proof_unavailable)


def _read_event(event: decision_pb2.DecidingEvent) -> DecidingEvent:
    return DecidingEvent(
        seq=event.seq,
        event_bytes=event.entry.event_bytes,
        opening=event.entry.opening,
        commitment=event.entry.commitment,
        inclusion_proof=tuple(event.inclusion_proof),
        tree_size=event.tree_size,
        root_hash=event.root_hash,
        checkpoint=event.checkpoint,
    )
