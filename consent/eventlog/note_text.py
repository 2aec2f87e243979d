"""The characters and encodings that signed notes, keys and checkpoints are made of.

Sources: C2SP signed-note (text, key names), RFC 4648 section 4 (base64).
"""

import base64
import binascii
import re

# Lone surrogates can stand in a Python string but not in UTF-8.
_FORBIDDEN_IN_TEXT = re.compile(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]")
_FORBIDDEN_IN_LINE = re.compile(r"[\x00-\x1f\ud800-\udfff]")
_FORBIDDEN_IN_KEY_NAME = re.compile(r"[\s+\x00-\x1f\ud800-\udfff]")


def is_text(text: str) -> bool:
    """Say whether `text` can be the text of a note: ends in a newline, no other ASCII control character."""
    return text.endswith("\n") and _FORBIDDEN_IN_TEXT.search(text) is None


def is_line(text: str) -> bool:
    """Say whether `text` can be one line of a note (without its newline) and is not empty."""
    return text != "" and _FORBIDDEN_IN_LINE.search(text) is None


def is_key_name(name: str) -> bool:
    """Say whether `name` can name a key: not empty, no Unicode space, no plus, no control character."""
    return name != "" and _FORBIDDEN_IN_KEY_NAME.search(name) is None


def encode_base64(content: bytes) -> str:
    """Write bytes in standard base64 with padding."""
    return base64.b64encode(content).decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """Read standard base64, or return None where `text` is not the one canonical form of its bytes.

    Non-zero bits behind the last byte are refused (RFC 4648 section 3.5), so that nobody can vary the bytes.
    """
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if encode_base64(content) == text else None
