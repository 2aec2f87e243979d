"""Rows of a recognised file: each comes to a directive, or to a verdict that says why not."""

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from consent.errors import InvalidIdentifier
from consent.vocabulary.directive import ANY, Kind
from consent.vocabulary.subject import normalise
from feed.errors import InvalidRequest, PurposeUnknown
from feed.intake.imports.delimited import Record, read_records
from feed.intake.imports.rows import DirectiveRow, Row, RowReason, Verdict, VerdictKind
from feed.intake.imports.shapes import Shape, ShapeName
from feed.intake.imports.times import parse_stated_time

ACTIONS = {
    "opt_out": Kind.OPT_OUT,
    "opt-out": Kind.OPT_OUT,
    "optout": Kind.OPT_OUT,
    "unsubscribe": Kind.OPT_OUT,
    "unsubscribed": Kind.OPT_OUT,
    "withdraw": Kind.WITHDRAW,
    "refuse": Kind.REFUSE,
    "object": Kind.OBJECT,
    "revoke_by_controller": Kind.REVOKE_BY_CONTROLLER,
    "grant": Kind.GRANT,
}
"""Words of a plain file's action column. `yes` and `no` are none: yes to what?"""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What the file does not say.

    Attributes:
        known_purposes: Purposes of the policy that are not retired.
        purpose: What the people of a list without a purpose column unsubscribed from; empty where the file says it.
    """

    known_purposes: AbstractSet[str]
    purpose: str = ""


_ReadRow: TypeAlias = Callable[[Record], Row]


def read_rows(stream: BinaryIO, shape: Shape, options: ImportOptions) -> Iterator[Row]:
    """The rows below the header, one at a time.

    Args:
        stream: The file, from its beginning.
        shape: What `recognise_shape` found.
        options: What the file does not say.

    Raises:
        InvalidRequest: The operator must name a purpose, or must not; raised at once.
        PurposeUnknown: The purpose is not in the policy; raised at once.
        UnreadableImport: While iterating: the file cannot be read on from the line that the text names.
    """
    if shape.name is ShapeName.PLAIN:
        if options.purpose:
            raise InvalidRequest("purpose: a plain file names the purpose of each row itself")
        read_row = _plain_reader(shape, options)
    else:
        if not options.purpose:
            raise InvalidRequest("purpose: the file does not say what people unsubscribed from; name the purpose")
        if not _is_known(options.purpose, options):
            raise PurposeUnknown("purpose is not in the policy, or retired")
        read_row = _mailchimp_reader(shape, options)
    return _read(stream, shape, read_row)


def _read(stream: BinaryIO, shape: Shape, read_row: _ReadRow) -> Iterator[Row]:
    records = read_records(stream, shape.delimiter)
    next(records, None)
    for record in records:
        if len(record.cells) == shape.width:
            yield read_row(record)
        elif not record.cells:
            yield Verdict(record.line, VerdictKind.SKIP, RowReason.BLANK_LINE)
        else:
            yield _reject(record, RowReason.COLUMN_COUNT)


def _plain_reader(shape: Shape, options: ImportOptions) -> _ReadRow:
    columns = shape.columns
    action_at, purpose_at, time_at = columns["action"], columns["purpose"], columns.get("occurred_at")
    namespace_at = columns.get("namespace")
    identifier_column = next(name for name in columns if name not in ("action", "purpose", "occurred_at", "namespace"))
    identifier_at = columns[identifier_column]

    def read_row(record: Record) -> Row:
        cells = record.cells
        action = cells[action_at].strip().lower()
        if not action:
            return Verdict(record.line, VerdictKind.SKIP, RowReason.NO_ACTION, "action")
        kind = ACTIONS.get(action)
        if kind is None:
            return _reject(record, RowReason.ACTION_UNKNOWN, "action")
        purpose = cells[purpose_at].strip()
        if not _is_known(purpose, options):
            return _reject(record, RowReason.PURPOSE_UNKNOWN if purpose else RowReason.PURPOSE_MISSING, "purpose")
        namespace = identifier_column if namespace_at is None else cells[namespace_at].strip()
        time_cell = "" if time_at is None else cells[time_at]
        return _make_row(record, (identifier_column, namespace, cells[identifier_at]), purpose, kind, time_cell)

    return read_row


def _mailchimp_reader(shape: Shape, options: ImportOptions) -> _ReadRow:
    email_at, time_at = shape.columns["email"], shape.columns["occurred_at"]

    def read_row(record: Record) -> Row:
        cells = record.cells
        return _make_row(record, ("email", "email", cells[email_at]), options.purpose, Kind.OPT_OUT, cells[time_at])

    return read_row


def _make_row(record: Record, identifier: tuple[str, str, str], purpose: str, kind: Kind, time_cell: str) -> Row:
    column, namespace, value = identifier
    if not value.strip():
        return _reject(record, RowReason.IDENTIFIER_MISSING, column)
    try:
        # What the feed will do with it too; here so that a dry run tells.
        normalise(namespace, value)
    except InvalidIdentifier:
        return _reject(record, RowReason.INVALID_IDENTIFIER, column)
    stated = parse_stated_time(time_cell, is_denial=kind != Kind.GRANT)
    if isinstance(stated, RowReason):
        return _reject(record, stated, "occurred_at")
    return DirectiveRow(record.line, namespace, value, purpose, kind, stated.at_ms, stated.without_zone)


def _is_known(purpose: str, options: ImportOptions) -> bool:
    return purpose == ANY or purpose in options.known_purposes


def _reject(record: Record, reason: RowReason, column: str = "") -> Verdict:
    return Verdict(record.line, VerdictKind.REJECT, reason, column)
