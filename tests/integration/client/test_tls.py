"""Mutual TLS over TCP on this host."""

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from consentry.decision.v1 import decision_pb2
from consentry_client import Reason, TlsFiles, email
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.integration.client.asker import Asker

NOW = dt.datetime.now(dt.UTC)
ALLOW = decision_pb2.CheckResponse(
    effect=decision_pb2.EFFECT_ALLOW, reason=decision_pb2.REASON_GRANTED, decision_id=bytes(16)
)


def allow(request: bytes, context: grpc.ServicerContext) -> bytes:
    return ALLOW.SerializeToString()


class Authority:
    """Issues certificates for this host."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        certificate = self._build(self.subject, self.key).add_extension(x509.BasicConstraints(True, None), True)
        self.file.write_bytes(pem(certificate.sign(self.key, hashes.SHA256())))

    def issue(self, name: str) -> TlsFiles:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._build(subject, key).add_extension(alternative, False).sign(self.key, hashes.SHA256())
        files = TlsFiles(self.file, self.folder / f"{name}.crt", self.folder / f"{name}.key")
        Path(files.cert).write_bytes(pem(certificate))
        Path(files.key).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _build(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return x509.CertificateBuilder(
            self.subject, subject, key.public_key(), x509.random_serial_number(), NOW, NOW + dt.timedelta(hours=1)
        )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "authority")


@pytest.fixture(scope="module")
def address(authority: Authority) -> Iterator[str]:
    """A server that asks for a certificate and allows everything."""
    files = authority.issue("server")
    credentials = grpc.ssl_server_credentials(
        [(Path(files.key).read_bytes(), Path(files.cert).read_bytes())], authority.file.read_bytes(), True
    )
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(allow)
    service = grpc.method_handlers_generic_handler("consentry.decision.v1.ConsentDecisionService", {"Check": handler})
    with ThreadPoolExecutor(2) as executor:
        server = grpc.server(executor, handlers=[service])
        port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(0).wait()


async def test_check_with_certificates_of_one_authority_is_answered(
    make_asker: Callable[..., Asker], authority: Authority, address: str
) -> None:
    assert await make_asker(address, tls=authority.issue("service")).check(email("ada@example.com"), "marketing")


@pytest.mark.parametrize("wrong", ["ca", "cert"])
async def test_check_with_certificate_of_another_authority_is_denied(
    make_asker: Callable[..., Asker], authority: Authority, address: str, tmp_path: Path, wrong: str
) -> None:
    ours, other = authority.issue("service"), Authority(tmp_path, "other").issue("service")
    tls = TlsFiles(other.ca, ours.cert, ours.key) if wrong == "ca" else TlsFiles(ours.ca, other.cert, other.key)
    decision = await make_asker(address, tls=tls).check(email("ada@example.com"), "marketing")
    assert decision.reason is Reason.CLIENT_UNAVAILABLE


async def test_check_with_files_that_are_no_certificates_is_denied(
    make_asker: Callable[..., Asker], address: str, tmp_path: Path
) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / name).write_text("none")
    tls = TlsFiles(tmp_path / "ca", tmp_path / "cert", tmp_path / "key")
    decision = await make_asker(address, tls=tls).check(email("ada@example.com"), "marketing", timeout_seconds=0.5)
    assert decision.failed
    assert not decision


async def test_check_after_the_files_were_renewed_is_answered_again(
    make_asker: Callable[..., Asker], authority: Authority, address: str, tmp_path: Path
) -> None:
    """The files of another authority stand for those of one that has expired: the server refuses both in the handshake."""
    ours, other = authority.issue("service"), Authority(tmp_path, "other").issue("service")
    asker = make_asker(address, tls=TlsFiles(authority.file, other.cert, other.key))
    refused = await asker.check(email("ada@example.com"), "marketing")
    for old, new in ((other.cert, ours.cert), (other.key, ours.key)):
        Path(old).write_bytes(Path(new).read_bytes())
    # The call that meets the refusal may be the one that looks at the files again.
    decisions = [await asker.check(email("ada@example.com"), "marketing") for _ in range(2)]
    assert refused.reason is Reason.CLIENT_UNAVAILABLE
    assert decisions[-1].reason is Reason.GRANTED
    assert decisions[-1]


async def test_check_with_files_gone_or_half_written_is_denied_until_they_are_whole(
    make_asker: Callable[..., Asker], authority: Authority, address: str, tmp_path: Path
) -> None:
    ours, other = authority.issue("service"), Authority(tmp_path, "other").issue("service")
    asker = make_asker(address, tls=TlsFiles(authority.file, other.cert, other.key))
    cert, key = Path(other.cert), Path(other.key)
    cert.unlink()
    assert not await asker.check(email("ada@example.com"), "marketing")
    cert.write_bytes(Path(ours.cert).read_bytes())
    decision = await asker.check(email("ada@example.com"), "marketing", timeout_seconds=1)
    assert not decision
    key.write_bytes(Path(ours.key).read_bytes())
    decisions = [await asker.check(email("ada@example.com"), "marketing", timeout_seconds=2) for _ in range(3)]
    assert decisions[-1]
