"""A feed, a sidecar and a span receiver in one folder, as `consentry-feed init` sets them up, each a process of its own."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import yaml
from consentry.intake.v1 import intake_pb2, intake_pb2_grpc
from consentry_client import Client, IntakeClient, SidecarStatus, StatusError, evidence_digest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from consent.policy import format_policy, load_policy_file
from feed.cli.approvals import gather_approvals
from feed.grpc_api.attestation_codec import encode_attestation
from feed.setup import APPROVERS, CACHE_KEY_USE, TRUST_DOMAIN, Installation, create_enrolment_token, set_up
from feed.signing.key_store import load_keys
from hosting.addresses import MAX_SOCKET_PATH_BYTES
from hosting.development_ca import issue_certificate
from hosting.key_files import create_key_file
from tests.e2e.processes import (
    REPOSITORY,
    START_SECONDS,
    Program,
    ProgramError,
    clean_environment,
    command_path,
    run_command,
    wait_until,
)

TENANT = "demo"
ORIGIN = "consent.example/log"
SIDECAR_ID = "sidecar-1"
CALL_SECONDS = 5.0
EVIDENCE = evidence_digest(b"what an account keeps of a confirmation")
_LONGEST_SOCKET = "site/run/intake-accounts.sock"


@contextmanager
def short_folder(prefix: str, *, keep: bool = False) -> Iterator[Path]:
    """A new folder inside the checkout, or in the system's place for such where the checkout's path is too long for sockets."""
    cache = REPOSITORY / ".cache"
    cache.mkdir(exist_ok=True)
    length_bytes = len(str(cache / f"{prefix}-12345678" / _LONGEST_SOCKET).encode())
    parent = cache if length_bytes <= MAX_SOCKET_PATH_BYTES else None
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def find_free_port() -> int:
    """A port of the loopback interface that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def change_settings(path: Path, changes: Mapping[str, Any]) -> None:
    """Write a settings file anew, with some values changed; keys of nested settings are joined by dots."""
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *groups, name = key.split(".")
        group = settings
        for each in groups:
            group = group.setdefault(each, {})
        group[name] = value
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")


class Deployment:
    """What is set up in a folder, and runs; leaving the context stops it.

    Args:
        folder: Short; holds everything: `site` is what `init` makes, beside it are logs and received spans.
        environ: Variables of all programs, beside those that lead the sidecar's spans to the receiver.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.site = folder / "site"
        self.feed_settings = self.site / "feed" / "feed.yaml"
        self.sidecar_settings = self.site / "sidecar" / "sidecar.yaml"
        self.spans_path = folder / "received-spans.jsonl"
        self.port = find_free_port()
        self._receiver_port = find_free_port()
        endpoint = {"PROTOCOL": "grpc", "ENDPOINT": f"http://127.0.0.1:{self._receiver_port}"}
        self.environ = clean_environment() | {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in endpoint.items()}
        self.environ |= environ or {}
        self._programs = ExitStack()
        receiver = ["-m", "tests.fakes.otlp_receiver", "--port", str(self._receiver_port), "--print-port", "--spans"]
        self.receiver = self.program("receiver", [sys.executable, *receiver, str(self.spans_path)])
        self.feed = self.program("feed", [command_path("consentry-feed"), "serve", "-c", str(self.feed_settings)])
        self.sidecar = self.sidecar_program("sidecar", self.sidecar_settings)

    def program(self, name: str, command: list[str], *, has_full_disk: bool = False) -> Program:
        """A program that is stopped with the rest, not yet started."""
        program = Program(name, command, log_directory=self.folder, environ=self.environ, has_full_disk=has_full_disk)
        return self._programs.enter_context(program)

    def sidecar_program(self, name: str, settings: Path, *, has_full_disk: bool = False) -> Program:
        """A sidecar with settings of its own, not yet started."""
        command = [command_path("consentry-sidecar"), "serve", "-c", str(settings)]
        return self.program(name, command, has_full_disk=has_full_disk)

    def add_sidecar(
        self, sidecar_id: str, changes: Mapping[str, Any] | None = None, *, certificate: str = ""
    ) -> Program:
        """One more sidecar with a cache, a journal and sockets of its own, not yet started.

        Args:
            sidecar_id: Its name, and the name of its listener's socket.
            changes: Settings that are its own, for `change_settings`.
            certificate: The name that its certificate carries, where that is another.
        """
        home, tls = self.site / sidecar_id, self.site / "tls"
        for part in (home, home / "high-water"):
            part.mkdir(mode=0o700)
        create_key_file(home / "cache.key", os.urandom(32), use=CACHE_KEY_USE)
        keys = load_keys(self.site / "feed" / "keys", ORIGIN)
        create_enrolment_token(home / "enrolment.token", keys, ORIGIN, sidecar_id)
        name = f"spiffe://{TRUST_DOMAIN}/sidecar/{certificate or sidecar_id}"
        files = issue_certificate(tls, f"tls-of-{sidecar_id}", san_uris=[name])
        settings = home / "sidecar.yaml"
        shutil.copyfile(self.sidecar_settings, settings)
        own: dict[str, Any] = {
            "sidecar_id": sidecar_id,
            "enrolment_token_file": str(home / "enrolment.token"),
            "feed.tls.cert_file": str(files.cert_file),
            "feed.tls.key_file": str(files.key_file),
            "cache.directory": str(home / "cache"),
            "cache.key_files": [str(home / "cache.key")],
            "cache.high_water_file": str(home / "high-water" / "mark"),
            "journal.directory": str(home / "journal"),
            "journal.ship": False,
            "listeners": [{"address": self.address(sidecar_id), "callers": [{"name": "app", "detail": "full"}]}],
            "admin_address": self.address(f"{sidecar_id}-admin"),
            "audit.address": self.address(f"{sidecar_id}-audit"),
        }
        change_settings(settings, own | dict(changes or {}))
        return self.sidecar_program(sidecar_id, settings)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The three that every deployment has."""
        return self.receiver, self.feed, self.sidecar

    def set_up(self) -> None:
        """Make what `consentry-feed init` makes, without a process for it."""
        set_up(Installation(self.site, TENANT, ORIGIN, SIDECAR_ID, self.port))

    def start_receiver(self) -> None:
        """Start the span receiver."""
        self.receiver.start().wait_for_line(str(self._receiver_port))

    def start_feed(self) -> None:
        """Start the feed and wait until it listens."""
        self.feed.start().wait_for_line(" listening ")

    def start_sidecar(self) -> None:
        """Start the sidecar and wait until it listens."""
        self.sidecar.start().wait_for_line(" listening ")

    def run_feed(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a `consentry-feed` command with the feed's settings."""
        return run_command(
            "consentry-feed", *arguments, "-c", self.feed_settings, **{"environ": self.environ} | options
        )

    def run_sidecar(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a `consentry-sidecar` command with the sidecar's settings."""
        return run_command(
            "consentry-sidecar", *arguments, "-c", self.sidecar_settings, **{"environ": self.environ} | options
        )

    def address(self, name: str) -> str:
        """Of a socket: `sidecar`, `intake-web`, `intake-accounts`, `feed-import`, and with `-admin` and `-audit` of feed and sidecar."""
        return f"unix://{self.site}/run/{name}.sock"

    def client(self, name: str = "sidecar") -> Client:
        """Asks at a listener; patient, since the machine may be busy."""
        return Client(self.address(name), timeout_seconds=CALL_SECONDS)

    def intake(self, name: str = "intake-web") -> IntakeClient:
        """Hands in requests as a source."""
        return IntakeClient(self.address(name))

    def patient_intake(self, name: str) -> IntakeClient:
        """Hands in requests as a source, again and again while the feed starts anew."""
        return IntakeClient(self.address(name), timeout_seconds=START_SECONDS, attempts_max=100)

    @property
    def approver_keys(self) -> list[Path]:
        """Key files of the approvers that `init` makes."""
        return [self.site / "trust" / f"{name}.key" for name in APPROVERS]

    @property
    def sign_with(self) -> list[str]:
        """Options of `policy publish`: approve with them."""
        return [word for file in self.approver_keys for word in ("--sign-with", str(file))]

    def publish(self, policy_file: Path) -> None:
        """Put a policy in force, without a process for it."""
        policy = load_policy_file(policy_file.read_text(encoding="utf-8"), policy_file.name)
        approvals = [encode_attestation(each) for each in gather_approvals(policy, ORIGIN, (), self.approver_keys)]
        request = intake_pb2.PublishPolicyRequest(document=format_policy(policy), approvals=approvals)
        with grpc.insecure_channel(self.address("feed-admin")) as channel:
            stub = intake_pb2_grpc.PolicyServiceStub(channel)
            stub.PublishPolicy(request, timeout=CALL_SECONDS)

    def feed_status(self) -> intake_pb2.GetFeedStatusResponse:
        """What the feed holds."""
        with grpc.insecure_channel(self.address("feed-admin")) as channel:
            stub = intake_pb2_grpc.PolicyServiceStub(channel)
            return stub.GetFeedStatus(intake_pb2.GetFeedStatusRequest(), timeout=CALL_SECONDS)

    def is_feed_answering(self) -> bool:
        """Whether the feed says what it holds."""
        try:
            self.feed_status()
        except grpc.RpcError:
            return False
        return True

    def wait_until_ready(self, name: str = "sidecar", program: Program | None = None) -> None:
        """Wait until a sidecar's health says SERVING: it has verified data to answer from.

        Args:
            name: Of its socket.
            program: It, for what it says where it does not become ready.
        """
        with grpc.insecure_channel(self.address(name)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=START_SECONDS, wait_for_ready=True)
            try:
                is_ready = any(each.status == health_pb2.HealthCheckResponse.SERVING for each in watch)
            except grpc.RpcError:
                is_ready = False
            watch.cancel()
        if not is_ready:
            raise ProgramError(f"{name} is not ready:\n{(program or self.sidecar).tail}")

    def wait_until_caught_up(self, name: str = "sidecar") -> SidecarStatus:
        """Wait until a sidecar holds what the feed holds, fresh; either may be away meanwhile. Returns the sidecar's status."""
        seen = list[SidecarStatus]()

        def is_caught_up() -> bool:
            try:
                size = self.feed_status().log_size
                seen.append(client.status(timeout_seconds=CALL_SECONDS))
            except (StatusError, grpc.RpcError):
                return False
            return seen[-1].log_size >= size and seen[-1].sync_state == "IN_SYNC"

        with self.client(name) as client:
            wait_until(is_caught_up, f"{name} holds what the feed holds")
        return seen[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._programs.close()
