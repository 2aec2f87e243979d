"""A feed, a sidecar and a span receiver as real processes, set up as a new user would."""

import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import LOAD_CORES, SERVER_CORES, pin
from feed.setup import APPROVERS
from tests.e2e.processes import Program, clean_environment, command_path, run_command


@dataclass(frozen=True, slots=True)
class Running:
    """What runs.

    Attributes:
        sidecar_address: Where the caller `app` asks.
        intake_address: Where the source `web` records.
    """

    sidecar_address: str
    intake_address: str


@contextmanager
def running_installation() -> Iterator[Running]:
    """Start everything on one host, the sidecar and its shipper on a core of their own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="csty-bench-")))
        home, environ = folder / "home", clean_environment()
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{_start_receiver(stack, folder, environ)}"
        run_feed("init", home, "--port", str(free_port()), environ=environ)
        feed_settings, sidecar_settings = home / "feed" / "feed.yaml", home / "sidecar" / "sidecar.yaml"
        feed = program("feed", "consentry-feed", feed_settings, folder, environ)
        stack.enter_context(feed.start())
        feed.wait_for_line("listening")
        approvals = [word for name in APPROVERS for word in ("--sign-with", home / "trust" / f"{name}.key")]
        run_feed("policy", "publish", "default", *approvals, "-c", feed_settings, environ=environ)
        sidecar = program("sidecar", "consentry-sidecar", sidecar_settings, folder, environ)
        stack.enter_context(sidecar.start())
        pin(sidecar.pid, SERVER_CORES)
        sidecar.wait_for_line("runtime ready")
        run = home / "run"
        yield Running(f"unix://{run}/sidecar.sock", f"unix://{run}/intake-web.sock")


def _start_receiver(stack: ExitStack, folder: Path, environ: dict[str, str]) -> int:
    command = [sys.executable, "-m", "tests.fakes.otlp_receiver", "--port", "0", "--print-port"]
    receiver = Program("receiver", command, log_directory=folder, environ=environ)
    stack.enter_context(receiver.start())
    pin(receiver.pid, LOAD_CORES)
    return int(receiver.wait_for_line("").strip())


def program(name: str, command: str, settings: Path, folder: Path, environ: dict[str, str]) -> Program:
    """One of our servers, not started yet."""
    return Program(name, [command_path(command), "serve", "-c", str(settings)], log_directory=folder, environ=environ)


def run_feed(*arguments: str | Path, environ: dict[str, str]) -> None:
    """Run a `consentry-feed` command to its end; raises RuntimeError with what it said where that was not well."""
    done = run_command("consentry-feed", *arguments, environ=environ)
    if done.returncode:
        raise RuntimeError(done.stderr)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
