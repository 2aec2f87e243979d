"""A certificate authority for development, tests and the demo. Nothing here belongs into production.

Every certificate says ``Consentry development`` in its subject. Keys are EC P-256, files of mode 0600.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hosting.clock import Clock, SystemClock
from hosting.errors import KeyFileError, TlsError
from hosting.key_files import read_private_file, write_file_atomically

_ORGANISATION: Final = "Consentry development"
_CA_NAME: Final = "ca"
_CA_VALID_DAYS: Final = 825
_MAX_PEM_BYTES: Final = 1 << 16
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]*(\.[a-z0-9-]+)*")
# Two machines' clocks are never quite the same.
_BACKDATED: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """Where a certificate and its private key lie, both PEM."""

    cert_file: Path
    key_file: Path


def development_files(directory: Path, name: str = _CA_NAME) -> CertificateFiles:
    """Return where in ``directory`` the files of ``name`` lie, the authority's own by default.

    Raises:
        TlsError: The name cannot be a file's.
    """
    if not _NAME.fullmatch(name):
        raise TlsError("a certificate's name is lower-case letters, digits, '-' and '.'")
    return CertificateFiles(directory / f"{name}.pem", directory / f"{name}-key.pem")


def create_development_ca(directory: Path, *, clock: Clock | None = None) -> CertificateFiles:
    """Create an authority whose files are ``ca.pem`` and ``ca-key.pem`` in ``directory``.

    Raises:
        TlsError: There is one already, or the directory cannot be written.
    """
    files = development_files(directory)
    if files.cert_file.exists() or files.key_file.exists():
        raise TlsError(f"{directory}: holds a certificate authority already")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject("development authority")
    builder = _start_certificate(subject, subject, key, valid_days=_CA_VALID_DAYS, clock=clock)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=True), critical=True)
    _write(files, key, builder.sign(key, hashes.SHA256()))
    return files


def issue_certificate(
    directory: Path,
    name: str,
    *,
    san_uris: Sequence[str] = (),
    san_dns: Sequence[str] = (),
    san_ips: Sequence[str] = (),
    valid_days: int = 30,
    clock: Clock | None = None,
) -> CertificateFiles:
    """Issue a certificate, for server and client use, by the authority in ``directory``; an older one is replaced.

    Args:
        directory: Where ``create_development_ca`` put the authority; the new files go there too.
        name: Common name, and the stem of the files ``<name>.pem`` and ``<name>-key.pem``.
        san_uris: Subject alternative names that are URIs, such as SPIFFE IDs.
        san_dns: Those that are host names.
        san_ips: Those that are IP addresses.
        valid_days: Days until it expires, from the clock's time.
        clock: The machine's own by default.

    Raises:
        TlsError: No authority there, a malformed name, or the directory cannot be written.
    """
    files = development_files(directory, name)
    if name == _CA_NAME:
        raise TlsError("that name is the authority's own")
    ca_certificate, ca_key = _load_authority(development_files(directory))
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    names = _alternative_names(san_uris, san_dns, san_ips)
    builder = _start_certificate(_subject(name), ca_certificate.subject, key, valid_days=valid_days, clock=clock)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(is_ca=False), critical=True)
    builder = builder.add_extension(usage, critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write(files, key, builder.sign(ca_key, hashes.SHA256()))
    return files


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _start_certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, valid_days: int, clock: Clock | None
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp((clock or SystemClock()).now_ms() // 1000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(uris: Sequence[str], names: Sequence[str], addresses: Sequence[str]) -> list[x509.GeneralName]:
    try:
        return [
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(name) for name in names),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        ]
    except ValueError:
        raise TlsError("a subject alternative name is no ASCII URI, no host name or no IP address") from None


def _load_authority(files: CertificateFiles) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(files.cert_file.read_bytes())
        key_pem = bytes(read_private_file(files.key_file, max_bytes=_MAX_PEM_BYTES))
        key = serialization.load_pem_private_key(key_pem, password=None)
    except KeyFileError as error:
        raise TlsError(str(error)) from None
    except (OSError, ValueError, TypeError):
        raise TlsError(f"{files.cert_file.parent}: holds no certificate authority") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TlsError(f"{files.key_file}: not a key that create_development_ca wrote")
    return certificate, key


def _write(files: CertificateFiles, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        write_file_atomically(files.key_file, key_pem, mode=0o600)
        # A crash here leaves a key without its certificate, which server_credentials refuses by name.
        write_file_atomically(files.cert_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
    except OSError as error:
        raise TlsError(f"{files.cert_file.parent}: cannot be written: {error.strerror}") from None
