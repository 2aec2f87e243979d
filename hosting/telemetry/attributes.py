"""Every attribute name of our spans, once. docs/decision-record.md lists them from here."""

from typing import Final, NamedTuple

SPAN_CHECK: Final = "consent.check"
"""Name of the span of a call."""
SPAN_ITEMS: Final = "consent.check.items"
"""Name of a span that holds a part of a large batch's items."""
EVENT_DECISION: Final = "consent.decision"
"""Name of the span event of one item of a batch."""
SPAN_REQUEST: Final = "consent.request"
"""Name of the span of a call of a source at the feed."""
SPAN_APPEND: Final = "consent.log.append"
"""Name of the span in which what a request says becomes an entry of the log."""
SPAN_APPLY: Final = "consent.apply"
"""Name of the span in which an entry comes into force at a sidecar."""

DECISION_ID: Final = "consent.decision.id"
DECISION_EFFECT: Final = "consent.decision.effect"
DECISION_REASON: Final = "consent.decision.reason"
SUBJECT_PSEUDONYM: Final = "consent.subject.pseudonym"
PURPOSE: Final = "consent.purpose"
CALLER: Final = "consent.caller"
LOG_ORIGIN: Final = "consent.log.origin"
LOG_SIZE: Final = "consent.log.size"
LOG_SEQ: Final = "consent.log.seq"
POLICY_VERSION: Final = "consent.policy.version"
STALENESS_MS: Final = "consent.staleness_ms"
BATCH_SIZE: Final = "consent.batch.size"
BATCH_DENIED: Final = "consent.batch.denied"
BATCH_OFFSET: Final = "consent.batch.offset"
BATCH_REFUSED: Final = "consent.batch.refused"
REQUEST_ID: Final = "consent.request.id"
REQUEST_REFUSAL: Final = "consent.request.refusal"
SOURCE: Final = "consent.source"
EVENT_TYPE: Final = "consent.event.type"

# OpenTelemetry semantic conventions for RPC and resources; their package calls these names experimental and may move them.
RPC_SYSTEM_NAME: Final = "rpc.system.name"
RPC_METHOD: Final = "rpc.method"
RPC_RESPONSE_STATUS_CODE: Final = "rpc.response.status_code"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_INSTANCE_ID: Final = "service.instance.id"


class Attribute(NamedTuple):
    """One row of the reference.

    Attributes:
        name: As sent.
        kind: Its OTLP type.
        carriers: What bears it: `check` (span of one decision), `batch` (span of many), `items` (part of a large batch),
            `event` (one item), `request` and `append` (spans of the feed), `apply` (an entry at a sidecar), `resource`.
        meaning: For people.
    """

    name: str
    kind: str
    carriers: tuple[str, ...]
    meaning: str


_CALL: Final = ("check", "batch")
_ONE: Final = ("check", "event")
_RPC: Final = (*_CALL, "request")

ATTRIBUTES: Final = (
    Attribute(
        DECISION_ID, "string", ("check", "batch", "event"), "UUID of the decision; of a batch, that of its first item"
    ),
    Attribute(DECISION_EFFECT, "string", _ONE, "`ALLOW` or `DENY`"),
    Attribute(DECISION_REASON, "string", _ONE, "Why, one of the stable reasons"),
    Attribute(
        SUBJECT_PSEUDONYM, "string[]", _ONE, "Audit pseudonyms of the identifiers asked about, hexadecimal, as ordered"
    ),
    Attribute(PURPOSE, "string[]", _CALL, "The purposes asked for"),
    Attribute(CALLER, "string", _CALL, "Name of the listener or certificate that asked"),
    Attribute(
        LOG_ORIGIN,
        "string",
        (*_CALL, "append", "apply"),
        "Name of the event log; of a check left out before the first snapshot",
    ),
    Attribute(
        LOG_SIZE,
        "int",
        (*_CALL, "apply"),
        "Entries of the log that were in force; of `apply`, with those that came into force in the same step",
    ),
    Attribute(
        LOG_SEQ,
        "int",
        ("append", "apply"),
        "Number of the entry. It joins an entry to its applies, and is a lasting mark of what one person said: so it is on no span of "
        "a decision",
    ),
    Attribute(POLICY_VERSION, "int", _CALL, "Version of the policy in force, 0 for none"),
    Attribute(STALENESS_MS, "int", _CALL, "Age of the newest verified checkpoint; left out before the first snapshot"),
    Attribute(
        BATCH_SIZE,
        "int",
        ("batch", "items", "request"),
        "Decisions in the batch, or in this part of it; of a `RecordDirectives` call its records",
    ),
    Attribute(BATCH_DENIED, "int", ("batch", "items"), "How many of them are `DENY`"),
    Attribute(BATCH_OFFSET, "int", ("items",), "Index in the batch of this part's first item"),
    Attribute(BATCH_REFUSED, "int", ("request",), "Records of a `RecordDirectives` call that were refused"),
    Attribute(REQUEST_ID, "string", ("request", "append"), "The reference that the source was given, hexadecimal"),
    Attribute(REQUEST_REFUSAL, "string", ("request", "append"), "Stable reason why the request was refused"),
    Attribute(SOURCE, "string", ("request", "append"), "Name of the source that asked"),
    Attribute(EVENT_TYPE, "string", ("request", "append", "apply"), "Type of the event, such as `DIRECTIVE`"),
    Attribute(RPC_SYSTEM_NAME, "string", _RPC, "`grpc`"),
    Attribute(RPC_METHOD, "string", ("request",), "The method in full"),
    Attribute(
        RPC_RESPONSE_STATUS_CODE,
        "string",
        _RPC,
        "gRPC status by name; of a check always `OK`: a denial is an answer, not an error",
    ),
    Attribute(
        SERVICE_NAME,
        "string",
        ("resource",),
        "`consentry-sidecar` or `consentry-feed`, or what `OTEL_SERVICE_NAME` says",
    ),
    Attribute(SERVICE_VERSION, "string", ("resource",), "Version of Consentry"),
    Attribute(SERVICE_INSTANCE_ID, "string", ("resource",), "The sidecar's name; of the feed that of its log"),
)


def format_attribute_table() -> str:
    """The reference as a Markdown table."""
    rows = ["| attribute | type | on | meaning |", "|---|---|---|---|"]
    rows += [f"| `{row.name}` | {row.kind} | {', '.join(row.carriers)} | {row.meaning} |" for row in ATTRIBUTES]
    return "\n".join(rows) + "\n"
