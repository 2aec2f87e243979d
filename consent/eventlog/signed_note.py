"""C2SP signed notes (c2sp.org/signed-note): a text and the signatures under it, as bytes and back.

Nothing here verifies a signature: until `keys` or `checkpoint` did, a note's text is a stranger's word.
"""

from dataclasses import dataclass

from consent.eventlog.errors import MalformedNote
from consent.eventlog.note_text import decode_base64, encode_base64, is_key_name, is_text

KEY_ID_BYTES = 4
#: Room for the 16 signatures that the specification asks for, each post-quantum and near 5 kB, and a long text.
MAX_NOTE_BYTES = 256 * 1024
MAX_SIGNATURES = 64

_SIGNATURE_PREFIX = "\N{EM DASH} "


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line.

    Attributes:
        name: Name of the key, a URL without scheme by custom.
        key_id: 4 bytes that with the name tell which key and algorithm signed.
        signature: What the key made; its form depends on the kind of the key.
    """

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Refuse what no signature line can hold.

        Raises:
            MalformedNote: A field has the wrong form.
        """
        if not is_key_name(self.name):
            raise MalformedNote("name: must not be empty or hold a space, a plus or a control character")
        if len(self.key_id) != KEY_ID_BYTES:
            raise MalformedNote(f"key_id: must be {KEY_ID_BYTES} bytes")
        if not self.signature:
            raise MalformedNote("signature: must not be empty")


@dataclass(frozen=True, slots=True)
class Note:
    """A text, its final newline included, and at least one signature."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def __post_init__(self) -> None:
        """Refuse what no note can hold.

        Raises:
            MalformedNote: The text or the number of signatures is wrong.
        """
        check_text(self.text)
        if not 1 <= len(self.signatures) <= MAX_SIGNATURES:
            raise MalformedNote(f"signatures: must be 1 to {MAX_SIGNATURES}")


def check_text(text: str) -> None:
    """Refuse what cannot be the text of a note.

    Raises:
        MalformedNote: No newline at the end, another control character, or not writable in UTF-8.
    """
    if not is_text(text):
        raise MalformedNote("text: must end in a newline and hold no other control character")


def parse_note(note_bytes: bytes) -> Note:
    """Read a signed note, strictly: `format_note` gives back the same bytes.

    Raises:
        MalformedNote: Over a limit, not UTF-8, a control character, or no well-formed block of signatures.
    """
    if len(note_bytes) > MAX_NOTE_BYTES:
        raise MalformedNote(f"note: over {MAX_NOTE_BYTES} bytes")
    try:
        content = note_bytes.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedNote("note: not UTF-8") from error
    # The text may hold empty lines itself: the last one is the boundary.
    text, boundary, signature_lines = content.rpartition("\n\n")
    if not boundary:
        raise MalformedNote("note: no empty line before the signatures")
    if not signature_lines.endswith("\n"):
        raise MalformedNote("note: no signature, or the last line does not end")
    lines = signature_lines[:-1].split("\n", MAX_SIGNATURES)
    return Note(text + "\n", tuple(_parse_signature(line, number) for number, line in enumerate(lines, start=1)))


def format_note(note: Note) -> bytes:
    """Write a signed note.

    Raises:
        MalformedNote: The note would be over the limit of `parse_note`.
    """
    lines = "".join(_format_signature(signature) for signature in note.signatures)
    note_bytes = f"{note.text}\n{lines}".encode()
    if len(note_bytes) > MAX_NOTE_BYTES:
        raise MalformedNote(f"note: over {MAX_NOTE_BYTES} bytes")
    return note_bytes


def _parse_signature(line: str, number: int) -> NoteSignature:
    name, _, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    content = decode_base64(encoded)
    if not line.startswith(_SIGNATURE_PREFIX) or content is None:
        raise MalformedNote(f"signature line {number}: must be an em dash, a key name and canonical base64")
    try:
        return NoteSignature(name, content[:KEY_ID_BYTES], content[KEY_ID_BYTES:])
    except MalformedNote as error:
        raise MalformedNote(f"signature line {number}: {error}") from error


def _format_signature(signature: NoteSignature) -> str:
    return f"{_SIGNATURE_PREFIX}{signature.name} {encode_base64(signature.key_id + signature.signature)}\n"
