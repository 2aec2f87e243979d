"""Reads a settings file: YAML with line numbers, one meaning for every text, and errors that never quote the file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hosting.errors import SettingsError
from hosting.settings.tree import KeyPath, SettingsTree, format_path, suggest

_MAX_FILE_BYTES: Final = 1 << 20
_NO_FOLDING: Final = 1 << 30
_ESCAPED_BREAKS: Final = ("\\x85", "\\u2028", "\\u2029")
_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"
_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_SCALARS: Final[dict[str, Callable[[str], Any]]] = {
    "tag:yaml.org,2002:str": str,
    _NULL: lambda _: None,
    _BOOL: lambda text: {"true": True, "false": False}[text.lower()],
    _INT: int,
    _FLOAT: float,
}


def read_settings_file(path: Path) -> SettingsTree:
    """Return what a settings file says.

    Raises:
        SettingsError: Missing, unreadable, too long, or as ``parse_settings``.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such configuration file{_suggest_file(path)}") from None
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise SettingsError(f"{path}: longer than {_MAX_FILE_BYTES} bytes")
    return parse_settings(content, source=str(path))


def parse_settings(content: bytes, *, source: str) -> SettingsTree:
    """Return what the bytes of a settings file say; ``source`` is how errors name the file.

    Scalars follow the core schema of YAML 1.2: ``no``, ``on``, ``12:30``, ``0660`` and dates are text.

    Raises:
        SettingsError: Not UTF-8, not YAML, a key twice, anchors, aliases, tags, or no keys at the top.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{source}: not UTF-8 at byte {error.start + 1}") from None
    tree = SettingsTree()
    try:
        root = yaml.compose(text, _StrictLoader)
        if root is not None and root.tag != _NULL:
            tree.values = _Converter(source, tree.origins).convert_root(root)
    except yaml.MarkedYAMLError as error:
        # The error's own problem quotes the file, which may hold secrets; its context names only what was being read.
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise SettingsError(f"{source}{line}: not valid YAML, {error.context or 'broken'}") from None
    except yaml.YAMLError:
        raise SettingsError(f"{source}: not valid YAML, it holds a control character") from None
    except RecursionError:
        raise SettingsError(f"{source}: nested too deeply") from None
    return tree


def format_settings(values: Any) -> str:
    """Return YAML that ``parse_settings`` reads as the same keys and values."""
    # Written as they are, these characters end a line.
    is_plain = not any(mark in repr(values) for mark in _ESCAPED_BREAKS)
    return yaml.dump(values, Dumper=_StrictDumper, sort_keys=False, allow_unicode=is_plain, width=_NO_FOLDING)


def _suggest_file(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    return suggest(path.name, names)


class _StrictLoader(yaml.SafeLoader):
    """Composes nodes only; resolves plain scalars after the core schema of YAML 1.2.2, section 10.3.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the base class's name

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError("anchors and aliases are not allowed here", None, None, event.start_mark)
        return super().compose_node(parent, index)


class _StrictDumper(yaml.SafeDumper):
    """Quotes every text that would be something else to YAML 1.1 or to ``_StrictLoader``."""


for _tag, _pattern, _first in (
    (_NULL, r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (_BOOL, r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (_FLOAT, r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", list("-+0123456789")),
):
    for _yaml in (_StrictLoader, _StrictDumper):
        _yaml.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Converter:
    """Turns nodes into plain values and notes where each of them stands."""

    def __init__(self, source: str, origins: dict[KeyPath, str]) -> None:
        self._source = source
        self._origins = origins

    def convert_root(self, root: Node) -> dict[str, Any]:
        if not isinstance(root, MappingNode):
            raise self._error(root, "expected keys and values at the top")
        return self._convert_mapping(root, ())

    def _convert(self, node: Node, path: KeyPath) -> Any:
        if isinstance(node, MappingNode):
            return self._convert_mapping(node, path)
        if isinstance(node, SequenceNode):
            return self._convert_sequence(node, path)
        return self._convert_scalar(node, path)

    def _convert_mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        if node.tag != "tag:yaml.org,2002:map":
            raise self._error(node, "tags are not allowed here")
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise self._error(key_node, "a key must be text")
            key = key_node.value
            place = (*path, key)
            if key in values:
                raise self._error(key_node, f"key {format_path(place)} stands twice, first at {self._origins[place]}")
            self._origins[place] = self._place_of(key_node)
            values[key] = self._convert(value_node, place)
        return values

    def _convert_sequence(self, node: SequenceNode, path: KeyPath) -> list[Any]:
        if node.tag != "tag:yaml.org,2002:seq":
            raise self._error(node, "tags are not allowed here")
        values = []
        for index, item in enumerate(node.value):
            self._origins[*path, index] = self._place_of(item)
            values.append(self._convert(item, (*path, index)))
        return values

    def _convert_scalar(self, node: Node, path: KeyPath) -> Any:
        convert = _SCALARS.get(node.tag)
        if convert is None:
            raise self._error(node, "tags are not allowed here")
        try:
            return convert(node.value)
        except (ValueError, KeyError):
            raise self._error(node, f"{format_path(path)}: not of the kind that its tag says, or too long") from None

    def _place_of(self, node: Node) -> str:
        return f"{self._source}:{node.start_mark.line + 1}"

    def _error(self, node: Node, problem: str) -> SettingsError:
        return SettingsError(f"{self._place_of(node)}: {problem}")
