"""YAML text to plain data, with the line of every key and item.

A small and safe part of YAML: one document of mappings, lists and plain values, after the core schema of YAML 1.2, so
that `NO` is Norway and `on` is a word. Anchors, aliases, merge keys and tags are refused: they can blow up, and hide
what a reviewer should see.
"""

import re
import unicodedata
from dataclasses import dataclass

import yaml

from consent.policy.errors import (
    DocumentPath,
    DuplicateKey,
    DuplicatePurpose,
    MalformedDocument,
    PolicyError,
    PolicyTooLarge,
)
from consent.policy.wording import quote

MAX_TEXT_CHARACTERS = 4 * 1024 * 1024

_MAX_DEPTH = 16
_TAG = "tag:yaml.org,2002:"
_PLAIN_VALUES = {
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), "tTfF"),
    "int": (re.compile(r"-?(?:0|[1-9][0-9]{0,17})\Z"), "-0123456789"),
    "null": (re.compile(r"(?:null|Null|NULL|~|)\Z"), ["n", "N", "~", ""]),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 - PyYAML's own class attribute; the loop below fills it

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise _refuse("anchors and aliases are not allowed", event)
        if getattr(event, "tag", None) is not None:
            raise _refuse("tags are not allowed", event)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _refuse("nested too deeply", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _refuse(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    # The other kind of mark is that of the C loader, which is not used here.
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)  # type: ignore[arg-type]


for _name, (_pattern, _first) in _PLAIN_VALUES.items():
    _Loader.add_implicit_resolver(_TAG + _name, _pattern, list(_first))


@dataclass(frozen=True, slots=True)
class YamlText:
    """What a YAML file says, and where.

    Attributes:
        content: Mappings with text keys, lists, texts, whole numbers, flags, None.
        file_name: For error texts.
        lines: Line of every key and list item, from 1.
    """

    content: object
    file_name: str
    lines: dict[DocumentPath, int]

    def locate(self, path: DocumentPath) -> str:
        """`file:line` of the place, or of the nearest one around it that stands in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.file_name}:{self.lines.get(path, 1)}"


def read_yaml(text: str, file_name: str) -> YamlText:
    """Reads YAML.

    Args:
        text: The file's text; normalised to NFC, a byte-order mark is dropped.
        file_name: For error texts.

    Raises:
        MalformedDocument: No YAML, or a part of YAML that is not allowed.
        DuplicateKey: A key stands twice in one mapping (DuplicatePurpose under `purposes`).
        PolicyTooLarge: More than 4 Mi characters.
    """
    if len(text) > MAX_TEXT_CHARACTERS:
        raise PolicyTooLarge(
            f"the file has {len(text)} characters, the most is {MAX_TEXT_CHARACTERS}", location=file_name
        )
    text = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise MalformedDocument(f"not readable: {error.problem}", location=f"{file_name}:{line}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise MalformedDocument("a character that YAML does not allow", location=f"{file_name}:{line}") from None
    document = YamlText({}, file_name, {})
    return YamlText(_read_node(node, (), document), file_name, document.lines) if node else document


def _read_node(node: yaml.Node, path: DocumentPath, document: YamlText) -> object:
    document.lines.setdefault(path, node.start_mark.line + 1)
    match node:
        case yaml.MappingNode():
            return _read_mapping(node, path, document)
        case yaml.SequenceNode():
            return [_read_node(item, (*path, index), document) for index, item in enumerate(node.value)]
        case _:
            return _read_scalar(node.value, node.tag.removeprefix(_TAG))


def _read_mapping(node: yaml.MappingNode, path: DocumentPath, document: YamlText) -> dict[str, object]:
    content: dict[str, object] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        location = f"{document.file_name}:{line}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise MalformedDocument("a key must be text", location=location)
        key = key_node.value
        if key in content:
            raise _describe_duplicate(key, path, document).locate(location)
        document.lines[*path, key] = line
        content[key] = _read_node(value_node, (*path, key), document)
    return content


def _describe_duplicate(key: str, path: DocumentPath, document: YamlText) -> PolicyError:
    first = document.lines[*path, key]
    if path == ("purposes",):
        return DuplicatePurpose(f"the purpose {quote(key)} is already defined on line {first}", path=path)
    return DuplicateKey(f"the key {quote(key)} already stands on line {first}", path=path)


def _read_scalar(text: str, kind: str) -> object:
    match kind:
        case "bool":
            return text.lower() == "true"
        case "int":
            return int(text)
        case "null":
            return None
        case _:
            return text
