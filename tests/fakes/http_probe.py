"""Asks a management port as a kubelet or a scraper does: one real request, one connection."""

import asyncio
import http.client
import json
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hosting.addresses import Address, UnixAddress

TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Reply:
    """What came back; names of headers in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(str(self._path))


async def ask(
    address: Address | None,
    path: str,
    *,
    method: str = "GET",
    accept: str = "*/*",
    body: bytes | None = None,
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """One request; raises OSError where nobody answers."""
    assert address is not None

    def send() -> Reply:
        connection: http.client.HTTPConnection
        if isinstance(address, UnixAddress):
            connection = _UnixConnection(address.path)
        elif tls is not None:
            connection = http.client.HTTPSConnection(address.host, address.port, timeout=TIMEOUT_SECONDS, context=tls)
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, {"Accept": accept})
            response = connection.getresponse()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, headers, response.read().decode())
        finally:
            connection.close()

    return await asyncio.to_thread(send)
