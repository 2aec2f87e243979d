"""Which trace a log line belongs to."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.call_context import CURRENT_SPAN, enter_span, parse_span
from hosting.logs import LogFormat, configure_logging

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("aiosqlite", "grpc"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("traceparent", [TRACEPARENT, f"cc-{TRACE_ID}-{SPAN_ID}-01-what-comes-later"])
def test_parse_span_reads_what_follows_the_standard(traceparent: str) -> None:
    assert parse_span(traceparent) == (bytes.fromhex(TRACE_ID), bytes.fromhex(SPAN_ID))


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "alice@person.example",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
    ],
)
def test_parse_span_takes_nothing_else(traceparent: str) -> None:
    assert parse_span(traceparent) is None


@given(text=st.text(max_size=80))
def test_parse_span_any_text_is_a_span_or_none(text: str) -> None:
    span = parse_span(text)
    assert span is None or (len(span[0]), len(span[1])) == (16, 8)


@pytest.mark.parametrize("log_format", ["json", "text"])
async def test_log_lines_of_a_call_name_its_span_and_no_others_do(stream: io.StringIO, log_format: LogFormat) -> None:
    configure_logging("info", stream, log_format)

    async def call() -> None:
        enter_span(TRACEPARENT)
        logging.getLogger("consentry").info("inside")

    logging.getLogger("consentry").info("before")
    await asyncio.create_task(call())
    logging.getLogger("consentry").info("after")
    before, inside, after = stream.getvalue().splitlines()
    assert TRACE_ID not in before + after
    assert TRACE_ID in inside
    assert SPAN_ID in inside
    if log_format == "json":
        assert (json.loads(inside)["trace_id"], json.loads(inside)["span_id"]) == (TRACE_ID, SPAN_ID)


async def test_enter_span_keeps_the_calls_own_span() -> None:
    async def call() -> None:
        own = bytes(16), bytes(8)
        CURRENT_SPAN.set(own)
        enter_span(TRACEPARENT)
        assert CURRENT_SPAN.get() is own

    await asyncio.create_task(call())
