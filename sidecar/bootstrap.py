"""What a sidecar starts from besides its settings: the trust file, and a policy for the time before the first snapshot."""

from pathlib import Path

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import parse_verifier_key, verify_note
from consent.eventlog.signed_note import parse_note
from consent.eventlog.trust import Trust, open_trust
from consent.policy import Policy, PolicyError, parse_policy
from sidecar.errors import UnusableStartFile


def load_trust(trust_file: Path, root_key_file: Path) -> Trust:
    """Read the trust file and verify it with the root key.

    Raises:
        UnusableStartFile: A file is missing, malformed or signed by somebody else; the text names it.
    """
    try:
        root_key = parse_verifier_key(_read(root_key_file).decode("utf-8", "replace").strip())
    except EventLogError as error:
        raise UnusableStartFile(f"{root_key_file}: {error.reason}: {error}") from None
    try:
        return open_trust(_read(trust_file), root_key)
    except EventLogError as error:
        raise UnusableStartFile(f"{trust_file}: {error.reason}: {error}") from None


def load_bootstrap_policy(policy_file: Path, trust: Trust, now_unix_seconds: int) -> Policy:
    """Read a policy document that one of the trust file's approvers signed: a signed note whose text is the document in one line.

    Raises:
        UnusableStartFile: The file is missing, malformed, or no approver signed it.
    """
    try:
        note = parse_note(_read(policy_file))
        in_force = (key for key in trust.approver_keys if key.is_in_force(now_unix_seconds))
        verify_note(note, *(key.verifier_key for key in in_force))
        return parse_policy(note.text.removesuffix("\n").encode("utf-8"))
    except (EventLogError, PolicyError) as error:
        raise UnusableStartFile(f"{policy_file}: {error.reason}: {error}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableStartFile(f"{path}: {error.strerror or 'cannot be read'}") from None
