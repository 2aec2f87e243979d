"""5.14, 8.20, 8.21: certificates that were given to this tool."""

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from auditor.evidence.errors import InvalidEvidenceOption
from auditor.evidence.model import Cell, Report
from auditor.evidence.period import MS_PER_DAY, MS_PER_SECOND, format_time
from auditor.evidence.scope import Scope
from auditor.findings import Finding, Severity

SLUG: Final = "5.14_8.20_8.21"
_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer"})
_MAX_FILE_BYTES: Final = 1 << 20
_SOON_DAYS: Final = 14
_LEAST_RSA_BITS: Final = 2048


def add_certificates(report: Report, scope: Scope) -> None:
    """Show every certificate of the folder that was given; keys that lie beside them are not read.

    Raises:
        InvalidEvidenceOption: The folder cannot be read.
    """
    section = report[SLUG]
    if scope.certificates is None:
        section.add_open("Certificates: none were given (--certificates)", "whoever issues or installs them")
        return
    try:
        paths = sorted(path for path in scope.certificates.iterdir() if path.suffix.lower() in _SUFFIXES)
        contents = {path: path.read_bytes() for path in paths if path.stat().st_size <= _MAX_FILE_BYTES}
    except OSError as error:
        raise InvalidEvidenceOption(f"--certificates: {error.strerror}") from None
    rows = list[tuple[Cell, ...]]()
    for path, content in contents.items():
        if b"PRIVATE KEY" in content:
            continue
        try:
            certificates = x509.load_pem_x509_certificates(content)
        except ValueError:
            text = "a file is no certificate that can be read"
            section.add_finding(Finding("CERTIFICATE_UNREADABLE", text, Severity.NOTE, place=path.name))
            continue
        for certificate in certificates:
            rows.append((path.name, *_describe(certificate)))
            _judge(report, scope, path, certificate)
    section.add_source(f"certificates given to this tool: {len(rows)}")
    columns = ("file", "names", "from", "until", "key", "signed with", "authority")
    section.add_table("certificates", "Certificates", columns, rows)


def _describe(certificate: x509.Certificate) -> tuple[Cell, ...]:
    algorithm = certificate.signature_hash_algorithm
    return (
        _names(certificate),
        certificate.not_valid_before_utc.strftime("%Y-%m-%d"),
        certificate.not_valid_after_utc.strftime("%Y-%m-%d"),
        _key(certificate),
        algorithm.name if algorithm else "",
        "yes" if _is_authority(certificate) else "no",
    )


def _judge(report: Report, scope: Scope, path: Path, certificate: x509.Certificate) -> None:
    section = report[SLUG]
    end_ms = int(certificate.not_valid_after_utc.timestamp()) * MS_PER_SECOND
    left_ms = end_ms - scope.generated_at_ms
    if left_ms < 0:
        section.add_finding(Finding("CERTIFICATE_EXPIRED", f"expired at {format_time(end_ms)}", place=path.name))
    elif left_ms < _SOON_DAYS * MS_PER_DAY:
        text = f"ends at {format_time(end_ms)}"
        section.add_finding(Finding("CERTIFICATE_ENDING", text, Severity.NOTE, place=path.name))
    key = certificate.public_key()
    if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        section.add_finding(Finding("WEAK_CERTIFICATE_KEY", f"RSA with {key.key_size} bits", place=path.name))


def _names(certificate: x509.Certificate) -> str:
    """DNS names and URIs alone: they are what our servers look at, and no e-mail address is among them."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ""
    found = [*names.get_values_for_type(x509.DNSName), *names.get_values_for_type(x509.UniformResourceIdentifier)]
    return ", ".join(found)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "not known here"
    if isinstance(key, RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey").lstrip("_")
