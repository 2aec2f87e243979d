"""A signed policy for the time before a sidecar's first snapshot: what it starts from besides its settings and the trust file."""

from pathlib import Path

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import verified_signatures
from consent.eventlog.signed_note import parse_note
from consent.eventlog.trust import Trust
from consent.policy import Policy, PolicyError, parse_policy
from hosting.errors import UnusableStartFile
from hosting.trust_files import read_start_file


def load_bootstrap_policy(policy_file: Path, trust: Trust, now_unix_seconds: int | None) -> Policy:
    """Read a policy document that as many approvers signed as a policy in the log needs.

    The file is a signed note whose text is the document in one line.

    Args:
        policy_file: The file.
        trust: Whom to believe.
        now_unix_seconds: When the approvers' keys must be in force; None for a policy of the past, which any of their keys may have signed.

    Raises:
        UnusableStartFile: The file is missing, malformed, or too few different approvers signed it.
    """
    try:
        note = parse_note(read_start_file(policy_file))
        in_force = (key for key in trust.approver_keys if now_unix_seconds is None or key.is_in_force(now_unix_seconds))
        signatures = verified_signatures(note, *(key.verifier_key for key in in_force))
        policy = parse_policy(note.text.removesuffix("\n").encode("utf-8"))
    except (EventLogError, PolicyError) as error:
        raise UnusableStartFile(f"{policy_file}: {error.reason}: {error}") from None
    # Keys of one name are one person.
    approvers = {key.name for key, _ in signatures}
    if len(approvers) < trust.approver_threshold:
        raise UnusableStartFile(
            f"{policy_file}: signed by {len(approvers)} of the {trust.approver_threshold} approvers that are needed"
        )
    return policy
