"""The policy file: YAML that people write and review."""

import json
import re

from consent.policy.document import format_policy
from consent.policy.errors import PolicyError
from consent.policy.mapping import policy_from_mapping, policy_to_mapping
from consent.policy.model import Policy
from consent.policy.yaml_text import read_yaml

# What every YAML reader takes for text without quotes, the words of YAML 1.1 that mean yes and no aside.
_PLAIN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]")
_NEEDS_QUOTES = frozenset({"true", "false", "yes", "no", "on", "off", "null"})


def load_policy_file(text: str, file_name: str) -> Policy:
    """Reads a policy file.

    Args:
        text: YAML with the keys of docs/policy.md.
        file_name: What to call it in errors.

    Raises:
        PolicyError: As the subclass says; its text starts with `file:line:` and names the nearest valid name where
            one was mistyped.
    """
    source = read_yaml(text, file_name)
    try:
        policy = policy_from_mapping(source.content)
        # What has no document could not be published, and its author should learn it here.
        format_policy(policy)
    except PolicyError as error:
        raise error.locate(source.locate(error.path)) from None
    return policy


def format_policy_file(policy: Policy, comment: str = "") -> str:
    """A policy file that `load_policy_file` reads back to the same policy.

    Args:
        policy: The policy.
        comment: Lines to put above it.
    """
    lines = [f"# {''.join(map(_escape, line))}".rstrip() for line in comment.splitlines()] + ([""] if comment else [])
    for key, value in policy_to_mapping(policy).items():
        lines += ["", *_write_entry(key, value, 0)] if isinstance(value, dict | list) else _write_entry(key, value, 0)
    return "\n".join(lines) + "\n"


def _write_entry(key: str, value: object, indent: int) -> list[str]:
    start = f"{' ' * indent}{_write_scalar(key)}:"
    if isinstance(value, dict) and value:
        entries = [_write_entry(inner, item, indent + 2) for inner, item in value.items()]
        return [start, *(line for entry in entries for line in entry)]
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return [start, *(f"{' ' * indent}  - {_write_flow(item)}" for item in value)]
    return [f"{start} {_write_flow(value)}"]


def _write_flow(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_write_scalar(key)}: {_write_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_write_flow(item) for item in value) + "]"
    return _write_scalar(value)


def _write_scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN_TEXT.fullmatch(value) and value.lower() not in _NEEDS_QUOTES:
        return value
    # A JSON text is a double-quoted YAML text, if what YAML forbids in the raw is escaped too.
    return "".join(_escape(character) for character in json.dumps(value, ensure_ascii=False))


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
