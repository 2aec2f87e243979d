"""The caller's trace reaches the server, with both clients."""

import subprocess
import sys

import pytest
from consentry_client import email
from consentry_client.testing import FakeSidecar
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from tests.integration.client.asker import Asker

ADA = email("ada@example.com")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPAN = NonRecordingSpan(
    SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(1))
)


async def test_checks_within_a_span_carry_its_trace(asker: Asker, sidecar: FakeSidecar) -> None:
    with trace.use_span(SPAN):
        await asker.check(ADA, "marketing")
        await asker.check_many([ADA], "marketing")
        await asker.explain(ADA, "marketing")
        await asker.filter_allowed([ADA], key=lambda one: one, purpose="marketing")
    assert len(sidecar.calls) == 4
    assert {call.metadata.get("traceparent") for call in sidecar.calls} == {TRACEPARENT}


async def test_checks_with_given_trace_carry_it(asker: Asker, sidecar: FakeSidecar) -> None:
    await asker.check(ADA, "marketing", traceparent=TRACEPARENT)
    assert sidecar.calls[0].metadata["traceparent"] == TRACEPARENT


async def test_checks_outside_of_any_span_carry_no_trace(asker: Asker, sidecar: FakeSidecar) -> None:
    await asker.check(ADA, "marketing")
    assert "traceparent" not in sidecar.calls[0].metadata


@pytest.mark.parametrize("traceparent", ["", "x\ny", "ä", "0" * 100_000])
async def test_checks_with_broken_trace_are_answered_without_it(
    asker: Asker, sidecar: FakeSidecar, traceparent: str
) -> None:
    sidecar.allow(ADA, "marketing")
    assert await asker.check(ADA, "marketing", traceparent=traceparent)
    assert "traceparent" not in sidecar.calls[0].metadata


WITHOUT_OPENTELEMETRY = """
import sys
sys.modules["opentelemetry"] = None
from consentry_client import Client, email
with Client(sys.argv[1], timeout_seconds=20) as client:
    print(bool(client.check(email("ada@example.com"), "marketing", traceparent=sys.argv[2])))
"""


def test_client_without_opentelemetry_works(sidecar: FakeSidecar) -> None:
    sidecar.allow(ADA, "marketing")
    command = [sys.executable, "-c", WITHOUT_OPENTELEMETRY, sidecar.address, TRACEPARENT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True"
    assert sidecar.calls[0].metadata["traceparent"] == TRACEPARENT
