"""Steps between the pure course of a question and the wire.

A course (`inquiry`, `bulk`, `intake_course`) is a generator: it yields a step, the blocking or the asyncio transport
carries it out, and what came of it is sent back in. So both clients run the same course and differ only in `await`.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from consentry.decision.v1 import decision_pb2
from consentry.intake.v1 import intake_pb2

from consentry_client.failure import Failure

Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")

_DECISION = f"/{decision_pb2.DESCRIPTOR.services_by_name['ConsentDecisionService'].full_name}"
_INTAKE = f"/{intake_pb2.DESCRIPTOR.services_by_name['IntakeService'].full_name}"

CHECK = f"{_DECISION}/Check"
CHECK_BATCH = f"{_DECISION}/CheckBatch"
CHECK_STREAM = f"{_DECISION}/CheckStream"
EXPLAIN = f"{_DECISION}/Explain"
GET_STATUS = f"{_DECISION}/GetStatus"
RECORD_DIRECTIVE = f"{_INTAKE}/RecordDirective"
RECORD_LINK = f"{_INTAKE}/RecordLink"
GET_RECEIPT = f"{_INTAKE}/GetReceipt"


@dataclass(frozen=True, slots=True)
class Call:
    """Make a unary call. Comes back as the answer's bytes, or a Failure."""

    method: str
    request_bytes: bytes
    timeout_seconds: float
    metadata: Metadata = ()
    wait_for_ready: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    """Let some time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Take:
    """Take up to `count` items from the source. Comes back as a list; a shorter one is the last."""

    count: int


@dataclass(frozen=True, slots=True)
class Send:
    """Send a message on the stream, which is opened if there is none."""

    message_bytes: bytes
    metadata: Metadata = ()
    wait_for_ready: bool = False


@dataclass(frozen=True, slots=True)
class Receive:
    """Wait for the next message of the stream. Comes back as its bytes, or a Failure."""

    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Give the stream up; the next Send opens another."""


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand one item to the caller."""

    item: Any


Outcome = bytes | Failure
Course = Generator[Call, Outcome, T]
"""A course that only makes unary calls."""
