"""Mutual TLS for gRPC: credentials that follow their files, and the names of a peer.

gRPC takes any bytes as certificate and key and fails at each handshake, so the files are checked first
(`hosting.certificates`).
"""

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc

from hosting.certificates import OwnCertificate, TlsMaterial, read_material


def server_credentials(cert_file: Path, key_file: Path, client_ca_file: Path) -> grpc.ServerCredentials:
    """Return credentials for a port on which every client must show a certificate; see `reloading_server_credentials`.

    Args:
        cert_file: PEM, the server's certificate first, then intermediates.
        key_file: PEM, unencrypted private key of that certificate; only its owner may read it.
        client_ca_file: PEM, the authorities whose clients are let in.

    Raises:
        TlsError: A file is missing, unreadable, not PEM, or key and certificate do not belong together.
    """
    return reloading_server_credentials(OwnCertificate(cert_file, key_file, client_ca_file))


def reloading_server_credentials(certificate: OwnCertificate) -> grpc.ServerCredentials:
    """Return credentials that take what the files hold at each handshake; connections that stand are left alone.

    Every client must show a certificate. Use them for one port only.
    """
    served = certificate.current()

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """What gRPC asks before each handshake, from a thread of its own; None: as before."""
        nonlocal served
        current = certificate.current()
        if current is served:
            return None
        served = current
        return _configure(current)

    return grpc.dynamic_ssl_server_credentials(
        _configure(served),
        fetch,  # type: ignore[arg-type]  # the stubs do not know that None stands for "as before"
        require_client_authentication=True,
    )


def _configure(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(material.key_pem, material.chain_pem)], material.ca_pem)


def channel_credentials(cert_file: Path, key_file: Path, server_ca_file: Path) -> grpc.ChannelCredentials:
    """Return credentials for a client that shows a certificate and trusts only the given authorities.

    Args:
        cert_file: PEM, the client's certificate first, then intermediates.
        key_file: PEM, unencrypted private key of that certificate; only its owner may read it.
        server_ca_file: PEM, the authorities whose servers are trusted; the system's own are not.

    Raises:
        TlsError: A file is missing, unreadable, not PEM, or key and certificate do not belong together.
    """
    return channel_credentials_of(read_material(cert_file, key_file, server_ca_file))


def channel_credentials_of(material: TlsMaterial) -> grpc.ChannelCredentials:
    """Return credentials for a client that shows this certificate and trusts only these authorities."""
    return grpc.ssl_channel_credentials(material.ca_pem, material.key_pem, material.chain_pem)


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
