"""Authorities and certificates of the tests, and a folder in which they are replaced as Kubernetes does it."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hosting.development_ca import CertificateFiles, create_development_ca, development_files, issue_certificate
from hosting.key_files import write_file_atomically
from tests.fakes.clock import FakeClock

DAY_MS = 86_400_000
LONG_AGO = FakeClock(1_600_000_000_000)


def in_days(days: float) -> FakeClock:
    """A clock that shows another day than today, to issue certificates then."""
    return FakeClock(time.time_ns() // 1_000_000 + int(days * DAY_MS))


@dataclass(frozen=True)
class Authority:
    """A certificate authority.

    Attributes:
        directory: Where its files and everything that it issues lie.
    """

    directory: Path

    @property
    def ca_file(self) -> Path:
        return development_files(self.directory).cert_file

    def issue(
        self, name: str, *uris: str, dns: Sequence[str] = (), ips: Sequence[str] = (), clock: FakeClock | None = None
    ) -> CertificateFiles:
        """A certificate with these names."""
        return issue_certificate(self.directory, name, san_uris=uris, san_dns=dns, san_ips=ips, clock=clock)

    def issue_server(self, name: str = "feed", clock: FakeClock | None = None) -> CertificateFiles:
        """A certificate for this host."""
        return self.issue(name, dns=("localhost",), ips=("127.0.0.1",), clock=clock)

    def settings(self, files: CertificateFiles) -> dict[str, Path]:
        """The files as settings name them."""
        return {"cert_file": files.cert_file, "key_file": files.key_file, "ca_file": self.ca_file}


def make_authority(directory: Path) -> Authority:
    directory.mkdir(parents=True)
    create_development_ca(directory)
    return Authority(directory)


class MountedSecret:
    """A folder with `tls.crt`, `tls.key` and `ca.crt`, all of which change in one step: a link to a folder is replaced.

    Args:
        directory: A new one.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._version = 0
        directory.mkdir(parents=True)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (directory / name).symlink_to(Path("..data") / name)

    @property
    def settings(self) -> dict[str, Path]:
        """The files as settings name them."""
        names = {"cert_file": "tls.crt", "key_file": "tls.key", "ca_file": "ca.crt"}
        return {setting: self.directory / name for setting, name in names.items()}

    def put(self, files: CertificateFiles, *authorities: Authority) -> None:
        """Replace everything."""
        bundle = b"".join(authority.ca_file.read_bytes() for authority in authorities)
        self.put_contents(files.cert_file.read_bytes(), files.key_file.read_bytes(), bundle)

    def put_contents(self, cert_pem: bytes, key_pem: bytes, ca_pem: bytes) -> None:
        """Replace everything with these bytes."""
        self._version += 1
        version = self.directory / f"..version_{self._version}"
        version.mkdir()
        write_file_atomically(version / "tls.crt", cert_pem)
        write_file_atomically(version / "tls.key", key_pem, mode=0o600)
        write_file_atomically(version / "ca.crt", ca_pem)
        link = self.directory / "..data_new"
        link.symlink_to(version.name)
        link.replace(self.directory / "..data")
