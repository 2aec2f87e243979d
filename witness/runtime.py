"""The composition root of the witness."""

import logging
import signal
import ssl
from pathlib import Path
from typing import Any, Final

import uvicorn

from consent.eventlog.errors import EventLogError
from consent.eventlog.keys import KeyKind, SigningKey, parse_signing_key
from hosting.clock import SystemClock
from hosting.errors import KeyFileError
from hosting.key_files import read_private_file
from hosting.locks import FileLock
from hosting.processes import disable_core_dumps
from witness.app import Cosigner, make_app
from witness.config import WitnessSettings
from witness.errors import MemoryUnusable
from witness.memory import load_memory

_LOGGER: Final = logging.getLogger(__name__)
_MAX_KEY_BYTES: Final = 4096
LOCK_NAME: Final = ".lock"


def load_key(path: Path) -> SigningKey:
    """Read the witness's private key.

    Raises:
        KeyFileError: Missing, open to others, or no cosigner's key.
    """
    try:
        key = parse_signing_key(bytes(read_private_file(path, max_bytes=_MAX_KEY_BYTES)).decode().removesuffix("\n"))
    except (EventLogError, UnicodeDecodeError):
        raise KeyFileError(f"{path}: not a private key as `consentry-witness init` writes it") from None
    if key.kind is not KeyKind.COSIGNER:
        raise KeyFileError(f"{path}: not a cosigner's key")
    return key


class _Server(uvicorn.Server):
    """Says when it listens, with the port that the kernel chose where none was set."""

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        if self.started:
            port = self.servers[0].sockets[0].getsockname()[1]
            _LOGGER.info("listening", extra={"fields": {"port": port}})


def serve(settings: WitnessSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        WitnessError, HostingError: What stops the start.
    """
    disable_core_dumps()
    key = load_key(settings.key_file)
    lock = FileLock(settings.directory / LOCK_NAME)
    if not settings.directory.is_dir() or not lock.try_acquire():
        raise MemoryUnusable(f"{settings.directory}: does not exist, or another witness works there")
    memory = load_memory(settings.directory)
    log_keys = {log.origin: log.verifier_keys() for log in settings.logs}
    app = make_app(Cosigner(key, log_keys, memory, SystemClock()))
    address, tls = settings.tcp_address, settings.tls
    secured: dict[str, Any] = {}
    if tls is not None:
        secured = {
            "ssl_certfile": str(tls.cert_file),
            "ssl_keyfile": str(tls.key_file),
            "ssl_ca_certs": str(tls.ca_file),
            "ssl_cert_reqs": ssl.CERT_REQUIRED,
        }
    config = uvicorn.Config(
        app,
        host=address.host,
        port=address.port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=256,
        **secured,
    )
    # uvicorn stops, drained, at a signal, and then sends it again to whoever was there before: nobody, so that the exit code is 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _Server(config).run()
