"""Logs of a server process: one line for each record, and no exception text that may hold personal data."""

import json
import logging
import math
import os
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

from hosting.call_context import CURRENT_SPAN
from hosting.errors import SettingsError, stable_reason

LogFormat = Literal["json", "text"]
JsonValue = str | int | float | bool | list["JsonValue"] | dict[str, "JsonValue"] | None

_LEVELS: Final = frozenset(
    {logging.NOTSET, logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL}
)
_MAX_CHAINED_EXCEPTIONS: Final = 8
_LOGGERS_FROM_INFO_ON: Final = (
    # Below INFO it writes the parameters of every statement, subject tokens among them.
    "aiosqlite",
    # Below INFO it logs a server while that is being freed; a handler that keeps records then crashes the process.
    "grpc",
)


def configure_logging(level: str, stream: TextIO, format: LogFormat = "json") -> None:  # noqa: A002
    """Send every log record of this process to ``stream``, one line each; earlier handlers are dropped.

    Args:
        level: Name of the lowest level that is written, such as ``INFO``.
        stream: Where the lines go.
        format: ``json`` writes an object with ``ts``, ``level``, ``logger``, ``message``, and where there are any
            ``fields`` (from ``extra={"fields": {...}}``), ``trace_id`` and ``span_id`` (while a call is handled) and
            ``exception``; ``text`` writes the same for people.

    Raises:
        SettingsError: Unknown level or format.
    """
    # Libraries may have added names of their own.
    levels = {name: level for name, level in logging.getLevelNamesMapping().items() if level in _LEVELS}
    if level.upper() not in levels:
        raise SettingsError(f"log level: expected one of {', '.join(sorted(levels, key=lambda name: levels[name]))}")
    formatters = {"json": JsonFormatter, "text": TextFormatter}
    if format not in formatters:
        raise SettingsError(f"log format: expected one of {', '.join(formatters)}")
    handler = _LineHandler(stream)
    handler.setFormatter(formatters[format]())
    root = logging.getLogger()
    for earlier in root.handlers[:]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LOGGERS_FROM_INFO_ON:
        logging.getLogger(name).setLevel(max(levels[level.upper()], logging.INFO))


def describe_exception(error: BaseException) -> list[JsonValue]:
    """Describe an exception and what led to it, newest first, without the text of foreign exceptions.

    Returns:
        For each exception its ``type`` and ``frames`` (``file:line function``, innermost last); for our own errors
        also ``reason`` and ``text``, which never hold personal data.
    """
    described: list[JsonValue] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(described) < _MAX_CHAINED_EXCEPTIONS:
        seen.add(id(current))
        described.append(_describe_one(current))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return described


def _describe_one(error: BaseException) -> dict[str, JsonValue]:
    # lookup_lines=False: the source line is not wanted, and reading files while logging is slow.
    summary = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    description: dict[str, JsonValue] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in summary],
    }
    reason = stable_reason(error)
    if reason is not None:
        description |= {"reason": reason, "text": str(error)}
    if isinstance(error, BaseExceptionGroup):
        description["members"] = [describe_exception(member) for member in error.exceptions]
    return description


class _SafeFormatter(logging.Formatter):
    """What both formats share: the parts of a record, cleaned."""

    def parts_of(self, record: logging.LogRecord) -> dict[str, JsonValue]:
        moment = datetime.fromtimestamp(record.created, UTC)
        parts: dict[str, JsonValue] = {
            "ts": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message_of(record),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping) and fields:
            parts["fields"] = _plain(fields)
        if (span := CURRENT_SPAN.get()) is not None:
            parts |= {"trace_id": span[0].hex(), "span_id": span[1].hex()}
        if record.exc_info and record.exc_info[1] is not None:
            parts["exception"] = describe_exception(record.exc_info[1])
        return parts


class JsonFormatter(_SafeFormatter):
    """One JSON object for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON."""
        return json.dumps(self.parts_of(record), separators=(",", ":"))


class TextFormatter(_SafeFormatter):
    """One line for people: time, level, logger, message, then fields and exception as ``name=JSON``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of text; control characters in it are escaped."""
        parts = self.parts_of(record)
        fields = parts.get("fields")
        details = dict(fields) if isinstance(fields, dict) else {}
        details |= {name: parts[name] for name in ("trace_id", "span_id", "exception") if name in parts}
        words = [str(parts[name]) for name in ("ts", "level", "logger", "message")]
        words += [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in details.items()]
        line = " ".join(words)
        return line if line.isprintable() else "".join(_escaped(character) for character in line)


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def _message_of(record: logging.LogRecord) -> str:
    message = record.getMessage()
    # From its second line on, asyncio's own message shows the repr of the task and with it the exception's text.
    return message.partition("\n")[0] if record.name == "asyncio" else message


def _plain(value: object) -> JsonValue:
    """Return the value as JSON can hold it; of an object of any other kind only the type's name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return f"<{type(value).__name__}>"


class _LineHandler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Say that a record was lost; the base class would print the record's arguments to stderr."""
        try:
            self.stream.write(f'{{"level":"ERROR","logger":{json.dumps(record.name)},"message":"log record lost"}}\n')
        except (OSError, ValueError):
            # The stream itself is closed or full: there is nowhere left to say it.
            return
