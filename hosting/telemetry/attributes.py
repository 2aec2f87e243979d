"""Every attribute name of our spans, once. docs/decision-record.md lists them from here."""

from typing import Final, NamedTuple

SPAN_CHECK: Final = "consent.check"
"""Name of the span of a call."""
SPAN_ITEMS: Final = "consent.check.items"
"""Name of a span that holds a part of a large batch's items."""
EVENT_DECISION: Final = "consent.decision"
"""Name of the span event of one item of a batch."""

DECISION_ID: Final = "consent.decision.id"
DECISION_EFFECT: Final = "consent.decision.effect"
DECISION_REASON: Final = "consent.decision.reason"
SUBJECT_PSEUDONYM: Final = "consent.subject.pseudonym"
PURPOSE: Final = "consent.purpose"
CALLER: Final = "consent.caller"
LOG_ORIGIN: Final = "consent.log.origin"
LOG_SIZE: Final = "consent.log.size"
POLICY_VERSION: Final = "consent.policy.version"
STALENESS_MS: Final = "consent.staleness_ms"
BATCH_SIZE: Final = "consent.batch.size"
BATCH_DENIED: Final = "consent.batch.denied"
BATCH_OFFSET: Final = "consent.batch.offset"

# OpenTelemetry semantic conventions for RPC and resources; their package calls these names experimental and may move them.
RPC_SYSTEM_NAME: Final = "rpc.system.name"
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
            `event` (one item), `resource`.
        meaning: For people.
    """

    name: str
    kind: str
    carriers: tuple[str, ...]
    meaning: str


_CALL: Final = ("check", "batch")
_ONE: Final = ("check", "event")

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
    Attribute(LOG_ORIGIN, "string", _CALL, "Name of the event log; left out before the first snapshot"),
    Attribute(LOG_SIZE, "int", _CALL, "Entries of the log that were in force"),
    Attribute(POLICY_VERSION, "int", _CALL, "Version of the policy in force, 0 for none"),
    Attribute(STALENESS_MS, "int", _CALL, "Age of the newest verified checkpoint; left out before the first snapshot"),
    Attribute(BATCH_SIZE, "int", ("batch", "items"), "Decisions in the batch, or in this part of it"),
    Attribute(BATCH_DENIED, "int", ("batch", "items"), "How many of them are `DENY`"),
    Attribute(BATCH_OFFSET, "int", ("items",), "Index in the batch of this part's first item"),
    Attribute(RPC_SYSTEM_NAME, "string", _CALL, "`grpc`"),
    Attribute(RPC_RESPONSE_STATUS_CODE, "string", _CALL, "`OK`: a denial is an answer, not an error"),
    Attribute(SERVICE_NAME, "string", ("resource",), "`consentry-sidecar`, or what `OTEL_SERVICE_NAME` says"),
    Attribute(SERVICE_VERSION, "string", ("resource",), "Version of Consentry"),
    Attribute(SERVICE_INSTANCE_ID, "string", ("resource",), "The sidecar's name"),
)


def format_attribute_table() -> str:
    """The reference as a Markdown table."""
    rows = ["| attribute | type | on | meaning |", "|---|---|---|---|"]
    rows += [f"| `{row.name}` | {row.kind} | {', '.join(row.carriers)} | {row.meaning} |" for row in ATTRIBUTES]
    return "\n".join(rows) + "\n"
