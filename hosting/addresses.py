"""Addresses of listeners and peers, in the notation that gRPC takes too."""

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hosting.errors import AddressError

# sockaddr_un has 108 bytes for the path, the last of which is NUL: unix(7).
MAX_SOCKET_PATH_BYTES: Final = 107
_EXPECTED_ADDRESS: Final = "expected unix:///path, host:port or [IPv6]:port"
# Labels of letters, digits and hyphens (RFC 1123, 2.1); a dotted IPv4 address has this shape too.
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?")
_MAX_HOST_CHARACTERS: Final = 253
_MAX_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket at an absolute path."""

    path: Path

    @property
    def is_loopback(self) -> bool:
        """A Unix socket never leaves the host."""
        return True


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or IP address without brackets, and a port; port 0 lets the kernel choose one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine's loopback; any name but ``localhost`` (RFC 6761) may lead elsewhere."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower().removesuffix(".") == "localhost"


Address = UnixAddress | TcpAddress


def parse_address(text: str) -> Address:
    """Return the address that ``unix:///path``, ``unix:/path``, ``host:port`` or ``[IPv6]:port`` stands for.

    Raises:
        AddressError: Anything else; the text does not repeat the input.
    """
    if text.startswith("unix:"):
        return UnixAddress(_parse_socket_path(text.removeprefix("unix:")))
    host, colon, port = text.rpartition(":")
    # isdigit alone would take digits of other scripts.
    if not colon or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > _MAX_PORT:
        raise AddressError(f"no port from 0 to {_MAX_PORT} at the end; {_EXPECTED_ADDRESS}")
    if host.startswith("[") and host.endswith("]"):
        return TcpAddress(_parse_ipv6(host[1:-1]), int(port))
    if len(host) > _MAX_HOST_CHARACTERS or not _HOST.fullmatch(host):
        raise AddressError(f"no host name or IP address before the port; {_EXPECTED_ADDRESS}")
    return TcpAddress(host, int(port))


def format_address(address: Address) -> str:
    """Return the one text for an address, which gRPC takes as a target as well."""
    if isinstance(address, UnixAddress):
        return f"unix://{address.path}"
    return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"


def _parse_socket_path(text: str) -> Path:
    path = "/" + text[3:] if text.startswith("///") else text
    is_absolute = path.startswith("/") and not path.startswith("//") and not path.endswith("/")
    # Not printable: NUL would cut the path, a lone surrogate cannot be encoded, a line break would forge log lines.
    if not is_absolute or not path.isprintable():
        raise AddressError(f"a Unix socket needs an absolute, printable path; {_EXPECTED_ADDRESS}")
    if problem := length_problem(Path(path)):
        raise AddressError(problem)
    return Path(path)


def _parse_ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise AddressError(f"no IPv6 address between the brackets; {_EXPECTED_ADDRESS}") from None


def length_problem(path: Path) -> str | None:
    """Return why a socket cannot be bound at ``path``, None if its length is no reason."""
    length_bytes = len(os.fsencode(path))
    if length_bytes <= MAX_SOCKET_PATH_BYTES:
        return None
    return f"the socket's path has {length_bytes} bytes, the kernel takes at most {MAX_SOCKET_PATH_BYTES}"
