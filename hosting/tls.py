"""Mutual TLS for gRPC: credentials from PEM files, checked at the start, and the names of a peer.

gRPC takes any bytes as certificate and key and fails at each handshake, so the files are parsed here first.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from hosting.errors import KeyFileError, TlsError
from hosting.key_files import read_private_file

_MAX_PEM_BYTES: Final = 1 << 20


def server_credentials(cert_file: Path, key_file: Path, client_ca_file: Path) -> grpc.ServerCredentials:
    """Return credentials for a port on which every client must show a certificate.

    Args:
        cert_file: PEM, the server's certificate first, then intermediates.
        key_file: PEM, unencrypted private key of that certificate; only its owner may read it.
        client_ca_file: PEM, the authorities whose clients are let in.

    Raises:
        TlsError: A file is missing, unreadable, not PEM, or key and certificate do not belong together.
    """
    pair = _read_pair(cert_file, key_file)
    return grpc.ssl_server_credentials([pair], _read_certificates(client_ca_file), require_client_auth=True)


def channel_credentials(cert_file: Path, key_file: Path, server_ca_file: Path) -> grpc.ChannelCredentials:
    """Return credentials for a client that shows a certificate and trusts only the given authorities.

    Args:
        cert_file: PEM, the client's certificate first, then intermediates.
        key_file: PEM, unencrypted private key of that certificate; only its owner may read it.
        server_ca_file: PEM, the authorities whose servers are trusted; the system's own are not.

    Raises:
        TlsError: A file is missing, unreadable, not PEM, or key and certificate do not belong together.
    """
    key, chain = _read_pair(cert_file, key_file)
    return grpc.ssl_channel_credentials(_read_certificates(server_ca_file), key, chain)


def peer_identities(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """Return the URI and DNS names of the peer's verified certificate, URIs first; empty without TLS.

    gRPC also gives all names in one list, ``x509_subject_alternative_name``, without their kinds. That list is not
    used: an authority that signs any DNS name would let ``spiffe://…`` through as one, and it would read like a URI.

    Args:
        auth_context: What ``ServicerContext.auth_context()`` returns.
    """
    if b"ssl" not in auth_context.get("transport_security_type", ()):
        return ()
    uris = [name for name in _decode_names(auth_context.get("peer_uri", ())) if ":" in name]
    names = [name for name in _decode_names(auth_context.get("peer_dns", ())) if _is_dns_name(name)]
    return tuple(dict.fromkeys(uris + names))


def _decode_names(names: Iterable[bytes]) -> Iterable[str]:
    return (name.decode("ascii") for name in names if name.isascii() and name.decode("ascii").isprintable())


def _is_dns_name(name: str) -> bool:
    if not name or any(character in name for character in ":/@ "):
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return True
    return False


def _read_pair(cert_file: Path, key_file: Path) -> tuple[bytes, bytes]:
    chain = _read_certificates(cert_file)
    try:
        key_pem = bytes(read_private_file(key_file, max_bytes=_MAX_PEM_BYTES))
    except KeyFileError as error:
        raise TlsError(str(error)) from None
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise TlsError(f"{key_file}: not an unencrypted private key in PEM") from None
    if key.public_key() != x509.load_pem_x509_certificates(chain)[0].public_key():
        raise TlsError(f"{key_file}: not the key of the certificate in {cert_file}")
    return key_pem, chain


def _read_certificates(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            pem = file.read(_MAX_PEM_BYTES + 1)
    except OSError as error:
        raise TlsError(f"{path}: cannot be read: {error.strerror}") from None
    if len(pem) > _MAX_PEM_BYTES:
        raise TlsError(f"{path}: longer than {_MAX_PEM_BYTES} bytes")
    try:
        x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise TlsError(f"{path}: no certificate in PEM") from None
    return pem
