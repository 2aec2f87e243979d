"""One call that is good HTTP/2 and no good gRPC: its method is not UTF-8."""

import asyncio

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS, _HEADERS, _END_HEADERS_AND_STREAM = 4, 1, 5
_FIELDS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.b/c\xf2\x28"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)


async def send_malformed_call(target: str) -> None:
    """Send it to `unix:///path` or `host:port`, and wait until the server has hung up or said something."""
    if target.startswith("unix:"):
        reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix://"))
    else:
        host, _, port = target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
    # Literal header fields without indexing, RFC 7541 section 6.2.2.
    block = b"".join(b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in _FIELDS)
    writer.write(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS_AND_STREAM, 1, block))
    await writer.drain()
    await reader.read(1)
    writer.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
