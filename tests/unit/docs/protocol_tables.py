"""The tables of docs/protocol.md that are made of the code."""

from enum import IntEnum

from consent import encoding as wire
from consent.event import FIRST_INFORMATIVE_TYPE, LAYOUTS, DirectiveFlag, EventType
from consent.vocabulary.directive import AgeBand, Assurance, GrantedBy, Kind, Proof

_CODES: dict[str, type[IntEnum]] = {
    "kind": Kind,
    "proof": Proof,
    "assurance": Assurance,
    "granted_by": GrantedBy,
    "age_band": AgeBand,
    "request_type": EventType,
}


def event_rows() -> list[list[str]]:
    """One row for each event type: type byte, name, and fields in the order of their bytes."""
    layouts = {event_class.TYPE: layout for event_class, layout in LAYOUTS.items()}
    return [[f"`0x{code:02x}`", code.name, _describe_layout(layouts.get(code), code)] for code in EventType]


def _describe_layout(layout: tuple[tuple[str, wire.Field], ...] | None, code: EventType) -> str:
    if layout is None:
        return "reserved; " + ("passed over" if code >= FIRST_INFORMATIVE_TYPE else "refused")
    return ", ".join(f"{name} `{field.name}`" for name, field in layout)


def field_kinds() -> set[str]:
    """The kinds of fields that events are made of, without the `optional`, `list of` and `long list of` before them."""
    names = {field.name for layout in LAYOUTS.values() for _, field in layout}
    return {name.removeprefix("optional ").removeprefix("long ").removeprefix("list of ") for name in names}


def code_rows() -> list[list[str]]:
    """One row for each enumerated field: its codes."""
    rows = []
    for name, codes in _CODES.items():
        values = "the type byte asked for" if codes is EventType else _list_codes(codes)
        rows.append([f"`{name}`", values])
    flags = ", ".join(f"{flag.value} {flag.name}" for flag in DirectiveFlag)
    return [*rows, ["`flags`", f"0 NONE, or the sum of {flags}"]]


def _list_codes(codes: type[IntEnum]) -> str:
    return ", ".join(f"{int(code)} {code.name}" for code in codes)
