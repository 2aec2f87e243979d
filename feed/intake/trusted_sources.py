"""What the trust file lets a source's key vouch for: a source must not be set up to say more."""

from collections.abc import Set as AbstractSet

from consent.eventlog.trust import EVERYTHING, SourceRights, Trust
from feed.errors import TrustMismatch
from feed.intake.sources import Source


def verify_source_rights(source: Source, trust: Trust) -> None:
    """Refuse a source whose settings go beyond the rights of its key: what it says by them, every sidecar would refuse.

    Args:
        source: One without a key cannot relax, and is left alone.
        trust: The trust file.

    Raises:
        TrustMismatch: The text names the source, and the setting.
    """
    if source.signing_key is None:
        return
    place, key = f"source {source.name}", source.signing_key
    trusted = next((each for each in trust.source_keys if each.verifier_key == key.verifier_key), None)
    if trusted is None or trusted.rights is None:
        raise TrustMismatch(f"{place}: its signing key is not among the trust file's source_keys")
    rights = trusted.rights
    if rights.source != source.name:
        raise TrustMismatch(f"{place}: in the trust file its signing key speaks for another source")
    for setting in _find_excess(source, rights):
        raise TrustMismatch(f"{place}: {setting} goes beyond what the trust file lets its signing key vouch for")


def _find_excess(source: Source, rights: SourceRights) -> list[str]:
    excess = {
        "namespaces": not _is_within(source.namespaces, rights.namespaces),
        "purposes": not _is_within(source.purposes, rights.purposes),
        "max_proof": source.proof_limit > rights.max_proof,
        "max_assurance": source.max_assurance > rights.max_assurance,
    }
    return [setting for setting, is_beyond in excess.items() if is_beyond]


def _is_within(names: AbstractSet[str], rights: tuple[str, ...]) -> bool:
    return EVERYTHING in rights or names <= set(rights)
