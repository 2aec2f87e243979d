import asyncio
import gc
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hosting.errors import KeyFileError, SettingsError
from hosting.logs import LogFormat, configure_logging, describe_exception

IDENTIFIER = "alice@person.example"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where configured logs go; the root logger is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("aiosqlite", "grpc"):
        logging.getLogger(name).setLevel(logging.NOTSET)


def only_record(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().splitlines()
    record = json.loads(line)
    assert isinstance(record, dict)
    return record


def raise_chained() -> None:
    try:
        raise ValueError(IDENTIFIER)
    except ValueError as error:
        raise KeyFileError("cache.key: no such file") from error


def test_json_log_record_has_all_parts(stream: io.StringIO) -> None:
    configure_logging("info", stream)

    logging.getLogger("consentry.sync").warning("applied %d", 3, extra={"fields": {"size": 7, "root": b"x"}})

    record = only_record(stream)
    assert record.pop("ts").endswith("Z")
    assert record == {
        "level": "WARNING",
        "logger": "consentry.sync",
        "message": "applied 3",
        "fields": {"size": 7, "root": "<bytes>"},
    }


def test_json_log_timestamp_is_utc_in_milliseconds(stream: io.StringIO) -> None:
    configure_logging("INFO", stream)
    record = logging.makeLogRecord({"created": 1_767_225_600.5, "msg": "x", "levelno": 20, "levelname": "INFO"})

    logging.getLogger().handle(record)

    assert only_record(stream)["ts"] == "2026-01-01T00:00:00.500Z"


def test_log_below_the_level_is_dropped(stream: io.StringIO) -> None:
    configure_logging("WARNING", stream)

    logging.getLogger("consentry").info("quiet")

    assert stream.getvalue() == ""


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_log_exception_shows_types_and_frames_and_only_our_text(stream: io.StringIO, log_format: LogFormat) -> None:
    configure_logging("INFO", stream, log_format)

    try:
        raise_chained()
    except KeyFileError:
        logging.getLogger("consentry").exception("cannot start")

    text = stream.getvalue()
    assert text.count("\n") == 1
    assert "builtins.ValueError" in text
    assert "raise_chained" in text
    assert "KEY_FILE_INVALID" in text
    assert "cache.key: no such file" in text
    assert IDENTIFIER not in text


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_log_message_with_line_breaks_stays_on_one_line(stream: io.StringIO, log_format: LogFormat) -> None:
    configure_logging("INFO", stream, log_format)

    logging.getLogger("consentry").info("a\nb\x1b[31m\u2028\udc80", extra={"fields": {"c\n": "d\n"}})

    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_text_log_shows_fields_as_json(stream: io.StringIO) -> None:
    configure_logging("INFO", stream, "text")

    logging.getLogger("consentry").info("ready", extra={"fields": {"size": 7, "path": Path("/run/ä")}})

    assert stream.getvalue().endswith('INFO consentry ready size=7 path="/run/ä"\n')


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (Path("/run"), "/run"),
        ((1, {2}), [1, [2]]),
        ({1: {"a": b"secret"}}, {"1": {"a": "<bytes>"}}),
        (ValueError(IDENTIFIER), "<ValueError>"),
    ],
)
def test_json_log_field_of_any_kind_is_shown_or_named(stream: io.StringIO, value: object, shown: object) -> None:
    configure_logging("INFO", stream)

    logging.getLogger("consentry").info("x", extra={"fields": {"value": value}})

    assert only_record(stream)["fields"] == {"value": shown}


def test_log_record_that_cannot_be_formatted_is_lost_without_its_arguments(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("INFO", stream)

    logging.getLogger("consentry").info("%d", IDENTIFIER)

    assert only_record(stream)["message"] == "log record lost"
    assert IDENTIFIER not in capsys.readouterr().err


def test_log_stream_closed_raises_nothing(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", stream)
    stream.close()

    logging.getLogger("consentry").info(IDENTIFIER)

    assert capsys.readouterr().err == ""


def test_log_of_a_task_that_nobody_awaited_hides_the_text(stream: io.StringIO) -> None:
    # What earlier tests left behind must not speak here.
    gc.collect()
    configure_logging("INFO", stream)

    async def fail() -> None:
        raise ValueError(IDENTIFIER)

    async def leave_behind() -> None:
        task = asyncio.ensure_future(fail())
        await asyncio.wait([task])

    asyncio.run(leave_behind())
    gc.collect()

    record = only_record(stream)
    assert record["message"] == "Task exception was never retrieved"
    assert record["exception"][0]["type"] == "builtins.ValueError"
    assert IDENTIFIER not in stream.getvalue()


def test_configure_logging_twice_writes_each_record_once(stream: io.StringIO) -> None:
    configure_logging("INFO", io.StringIO())
    configure_logging("INFO", stream)

    logging.getLogger("consentry").info("once")

    assert only_record(stream)["message"] == "once"


def test_configure_logging_unknown_level_or_format_is_refused(stream: io.StringIO) -> None:
    with pytest.raises(SettingsError, match="log level: expected one of NOTSET, DEBUG"):
        configure_logging("loud", stream)
    with pytest.raises(SettingsError, match="log format: expected one of json, text"):
        configure_logging("INFO", stream, "xml")  # type: ignore[arg-type]


def test_describe_exception_group_describes_its_members() -> None:
    (description,) = describe_exception(ExceptionGroup("two", [ValueError(IDENTIFIER), KeyFileError("gone")]))

    assert isinstance(description, dict)
    assert json.dumps(description["members"]).count('"type"') == 2
    assert IDENTIFIER not in json.dumps(description)


def test_describe_exception_circular_chain_ends() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first

    assert len(describe_exception(first)) == 2


def test_describe_exception_suppressed_context_is_left_out() -> None:
    error = ValueError("a")
    error.__context__ = KeyError("b")
    error.__suppress_context__ = True

    assert len(describe_exception(error)) == 1


@pytest.mark.parametrize("name", ["aiosqlite", "grpc._cython.cygrpc"])
def test_configure_logging_at_debug_keeps_the_details_of_some_libraries_out(stream: io.StringIO, name: str) -> None:
    configure_logging("debug", stream)

    logging.getLogger(name).debug("executing INSERT with a token")
    logging.getLogger("sidecar").debug("a detail")

    assert "token" not in stream.getvalue()
    assert "a detail" in stream.getvalue()
