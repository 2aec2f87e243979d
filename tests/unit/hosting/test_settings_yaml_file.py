from typing import Any

import pytest

from hosting.errors import SettingsError
from hosting.settings.yaml_file import parse_settings


def parse(text: str) -> dict[str, Any]:
    return parse_settings(text.encode(), source="program.yaml").values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("null", None),
        ("~", None),
        ("", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("0", 0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("no", "no"),
        ("on", "on"),
        ("0660", "0660"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        (".inf", ".inf"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("!!int '12'", 12),
        ("[a, 1]", ["a", 1]),
        ("{b: [{c: 1}]}", {"b": [{"c": 1}]}),
    ],
)
def test_parse_settings_scalar_has_one_meaning(text: str, value: object) -> None:
    assert parse(f"a: {text}\n") == {"a": value}


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "null\n", "\ufeff{}\n"])
def test_parse_settings_empty_file_is_no_settings(text: str) -> None:
    assert parse(text) == {}


def test_parse_settings_every_value_knows_its_line() -> None:
    tree = parse_settings(b"a: 1\nb:\n  - c: 1\n    d: 2\n", source="program.yaml")

    assert tree.origin_of(("b", 0, "d")) == "program.yaml:4"
    assert tree.origin_of(("b", 0)) == "program.yaml:3"
    assert tree.origin_of(("b", 0, "d", "missing")) == "program.yaml:4"
    assert tree.origin_of(("missing",)) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "program.yaml:3: key a stands twice, first at program.yaml:1"),
        ("a:\n  b: 1\n  'b': 2\n", "program.yaml:3: key a.b stands twice, first at program.yaml:2"),
        ("- a\n", "program.yaml:1: expected keys and values at the top"),
        ("hunter2\n", "program.yaml:1: expected keys and values at the top"),
        ("a: &hunter2 1\nb: *hunter2\n", "program.yaml:1: not valid YAML, anchors and aliases are not allowed here"),
        ("a: *hunter2\n", "program.yaml:1: not valid YAML, anchors and aliases are not allowed here"),
        ("a: !hunter2 1\n", "program.yaml:1: tags are not allowed here"),
        ("a: !hunter2 {}\n", "program.yaml:1: tags are not allowed here"),
        ("a: !hunter2 []\n", "program.yaml:1: tags are not allowed here"),
        ("a: !!binary aGk=\n", "program.yaml:1: tags are not allowed here"),
        ("a: !x!hunter2 1\n", "program.yaml:1: not valid YAML, while parsing a node"),
        ("a:\n  b: !!int hunter2\n", "program.yaml:2: a.b: not of the kind that its tag says"),
        ("a: !!bool hunter2\n", "program.yaml:1: a: not of the kind that its tag says"),
        ("a: " + "1" * 5_000, "program.yaml:1: a: not of the kind that its tag says, or too long"),
        ("{[hunter2]: 1}\n", "program.yaml:1: a key must be text"),
        ("a: 1\n---\nb: 1\n", "program.yaml:2: not valid YAML, expected a single document in the stream"),
        ("a: 'hunter2\n", "program.yaml:2: not valid YAML, while scanning a quoted scalar"),
        ("a: 1\nhunter2\n", "program.yaml:3: not valid YAML, while scanning a simple key"),
        ("a: \x00hunter2\n", "program.yaml: not valid YAML, it holds a control character"),
        ("a: " + "[" * 5_000, "program.yaml: nested too deeply"),
    ],
)
def test_parse_settings_malformed_is_refused_without_quoting_it(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse(text)

    assert str(refusal.value).startswith(problem)
    assert "hunter2" not in str(refusal.value)


def test_parse_settings_not_utf_8_names_the_byte() -> None:
    with pytest.raises(SettingsError, match=r"^program\.yaml: not UTF-8 at byte 4$"):
        parse_settings(b"a: \xff\n", source="program.yaml")
