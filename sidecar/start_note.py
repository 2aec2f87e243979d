"""What a sidecar notes about itself at the beginning of its journal."""

import contextlib
from collections.abc import Mapping
from hashlib import sha256

from hosting.certificates import OwnCertificate
from hosting.clock import Clock
from journal.start import CertificateNote, StartNote
from sidecar.config import SidecarSettings


def make_start_note(
    settings: SidecarSettings, certificates: Mapping[str, OwnCertificate], version: str, clock: Clock
) -> StartNote:
    """Settings and certificates as they are in effect. Settings name files of secrets and never hold one.

    Args:
        settings: Of this sidecar.
        certificates: Its own, by what they are for: `feed`, or the address of a listener.
        version: Of the program.
        clock: The time.
    """
    trust_sha256 = ""
    # It was read a moment ago; should it be gone, the rest is worth noting all the same.
    with contextlib.suppress(OSError):
        trust_sha256 = sha256(settings.trust.file.read_bytes()).hexdigest()
    return StartNote(
        version=version,
        sidecar_id=settings.sidecar_id,
        at_ms=clock.now_ms(),
        mode=settings.journal.mode,
        on_unavailable=settings.journal.on_unavailable.value,
        settings=settings.model_dump(mode="json"),
        trust_sha256=trust_sha256,
        certificates=tuple(_describe(use, certificate) for use, certificate in certificates.items()),
    )


def _describe(use: str, certificate: OwnCertificate) -> CertificateNote:
    material = certificate.current()
    return CertificateNote(use, sha256(material.chain_pem).hexdigest(), material.not_after_ms)
