from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
import pytest

from hosting.development_ca import CertificateFiles, create_development_ca, issue_certificate
from hosting.errors import TlsError
from hosting.tls import channel_credentials, peer_identities, server_credentials


@pytest.fixture
def issued(tmp_path: Path) -> CertificateFiles:
    create_development_ca(tmp_path)
    return issue_certificate(tmp_path, "feed", san_dns=["localhost"])


def test_credentials_from_good_files_are_made(issued: CertificateFiles, tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"

    assert isinstance(server_credentials(issued.cert_file, issued.key_file, ca_file), grpc.ServerCredentials)
    assert isinstance(channel_credentials(issued.cert_file, issued.key_file, ca_file), grpc.ChannelCredentials)


@pytest.mark.parametrize("name", ["feed.pem", "feed-key.pem", "ca.pem"])
@pytest.mark.parametrize("make", [server_credentials, channel_credentials])
def test_credentials_missing_file_is_named(
    issued: CertificateFiles, tmp_path: Path, name: str, make: Callable[[Path, Path, Path], object]
) -> None:
    (tmp_path / name).unlink()

    with pytest.raises(TlsError, match=name.replace(".", r"\.")) as refusal:
        make(issued.cert_file, issued.key_file, tmp_path / "ca.pem")

    assert refusal.value.reason == "TLS_INVALID"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("feed.pem", r"feed\.pem: no certificate in PEM"),
        ("ca.pem", r"ca\.pem: no certificate in PEM"),
        ("feed-key.pem", r"feed-key\.pem: not an unencrypted private key in PEM"),
    ],
)
@pytest.mark.parametrize(
    "content", [b"", b"hunter2", b"-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n"]
)
def test_server_credentials_malformed_file_is_named_without_its_content(
    issued: CertificateFiles, tmp_path: Path, name: str, problem: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(TlsError, match=problem) as refusal:
        server_credentials(issued.cert_file, issued.key_file, tmp_path / "ca.pem")

    assert "hunter2" not in str(refusal.value)


def test_server_credentials_oversized_file_is_refused(issued: CertificateFiles, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(b"A" * ((1 << 20) + 1))

    with pytest.raises(TlsError, match=r"ca\.pem: longer than 1048576 bytes"):
        server_credentials(issued.cert_file, issued.key_file, tmp_path / "ca.pem")


def test_server_credentials_key_open_to_others_is_refused(issued: CertificateFiles, tmp_path: Path) -> None:
    issued.key_file.chmod(0o640)

    with pytest.raises(TlsError, match=r"feed-key\.pem: open to its group or to others \(mode 0640\)"):
        server_credentials(issued.cert_file, issued.key_file, tmp_path / "ca.pem")


def test_server_credentials_key_of_another_certificate_is_refused(issued: CertificateFiles, tmp_path: Path) -> None:
    other = issue_certificate(tmp_path, "sidecar")

    with pytest.raises(TlsError, match=r"sidecar-key\.pem: not the key of the certificate in .*feed\.pem"):
        server_credentials(issued.cert_file, other.key_file, tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("auth_context", "identities"),
    [
        ({}, ()),
        ({"transport_security_type": [b"insecure"], "peer_uri": [b"spiffe://example.org/a"]}, ()),
        ({"peer_uri": [b"spiffe://example.org/a"]}, ()),
        (
            {
                "transport_security_type": [b"ssl"],
                "peer_dns": [b"sidecar.example", b"sidecar.example"],
                "peer_uri": [b"spiffe://example.org/a"],
                "x509_subject_alternative_name": [b"ignored.example"],
            },
            ("spiffe://example.org/a", "sidecar.example"),
        ),
        (
            {
                "transport_security_type": [b"ssl"],
                "peer_dns": [b"spiffe://example.org/evil", b"10.0.0.1", b"::1", b"", b"a@b.example", b"\xff", b"a\0b"],
                "peer_uri": [b"plain.example", b"\xff:", b"urn:a\nb"],
            },
            (),
        ),
    ],
)
def test_peer_identities_are_the_uri_and_dns_names(
    auth_context: Mapping[str, list[bytes]], identities: tuple[str, ...]
) -> None:
    assert peer_identities(auth_context) == identities
