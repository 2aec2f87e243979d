import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hosting.development_ca import create_development_ca, development_files, issue_certificate
from hosting.errors import TlsError
from tests.fakes.clock import FakeClock


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_issue_certificate_says_what_it_was_asked_to_say(tmp_path: Path) -> None:
    clock = FakeClock()
    ca = create_development_ca(tmp_path, clock=clock)

    files = issue_certificate(
        tmp_path,
        "sidecar-1",
        san_uris=["spiffe://example.org/sidecar/1"],
        san_dns=["sidecar.example"],
        san_ips=["127.0.0.1", "::1"],
        valid_days=3,
        clock=clock,
    )

    certificate = load(files.cert_file)
    certificate.verify_directly_issued_by(load(ca.cert_file))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/sidecar/1"]
    assert names.get_values_for_type(x509.DNSName) == ["sidecar.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    assert certificate.not_valid_after_utc == now + timedelta(days=3)
    assert certificate.not_valid_before_utc < now
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_development_certificates_all_say_so_and_use_p256(tmp_path: Path) -> None:
    files = [create_development_ca(tmp_path), issue_certificate(tmp_path, "feed")]

    for certificate in (load(file.cert_file) for file in files):
        (organisation,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert organisation.value == "Consentry development"
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"


def test_development_key_files_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    for files in (create_development_ca(tmp_path), issue_certificate(tmp_path, "feed")):
        assert stat.S_IMODE(files.key_file.stat().st_mode) == 0o600


def test_issue_certificate_again_replaces_the_pair(tmp_path: Path) -> None:
    create_development_ca(tmp_path)
    first = load(issue_certificate(tmp_path, "feed").cert_file)

    second = load(issue_certificate(tmp_path, "feed").cert_file)

    assert first.serial_number != second.serial_number


def test_create_development_ca_twice_is_refused(tmp_path: Path) -> None:
    files = create_development_ca(tmp_path)
    before = files.cert_file.read_bytes()

    with pytest.raises(TlsError, match="holds a certificate authority already"):
        create_development_ca(tmp_path)

    assert files.cert_file.read_bytes() == before


def test_create_development_ca_in_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="cannot be written: No such file or directory"):
        create_development_ca(tmp_path / "missing")


def test_issue_certificate_without_an_authority_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TlsError, match="holds no certificate authority"):
        issue_certificate(tmp_path, "feed")


def test_issue_certificate_with_an_exposed_authority_key_is_refused(tmp_path: Path) -> None:
    create_development_ca(tmp_path).key_file.chmod(0o644)

    with pytest.raises(TlsError, match=r"ca-key\.pem: open to its group or to others"):
        issue_certificate(tmp_path, "feed")


@pytest.mark.parametrize("name", ["", "../feed", "/feed", "a/b", "Feed", ".feed", "feed.", "fe ed", "feed\n"])
def test_issue_certificate_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    create_development_ca(tmp_path)

    with pytest.raises(TlsError, match="lower-case letters"):
        issue_certificate(tmp_path, name)


def test_issue_certificate_under_the_authoritys_name_is_refused(tmp_path: Path) -> None:
    create_development_ca(tmp_path)

    with pytest.raises(TlsError, match="authority's own"):
        issue_certificate(tmp_path, "ca")


def test_issue_certificate_malformed_alternative_name_is_refused(tmp_path: Path) -> None:
    create_development_ca(tmp_path)

    with pytest.raises(TlsError, match="subject alternative name"):
        issue_certificate(tmp_path, "feed", san_ips=["localhost"])
    with pytest.raises(TlsError, match="subject alternative name"):
        issue_certificate(tmp_path, "feed", san_uris=["spiffe://exämple"])


def test_development_files_lie_beside_each_other(tmp_path: Path) -> None:
    assert development_files(tmp_path).cert_file == tmp_path / "ca.pem"
    assert development_files(tmp_path, "feed").key_file == tmp_path / "feed-key.pem"
