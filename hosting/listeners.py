"""Binding a gRPC server to its address, so that a taken port is an error with a name."""

import os
from dataclasses import replace
from typing import Final

import grpc

from hosting.addresses import Address, TcpAddress, format_address
from hosting.errors import SocketInUse

# By default gRPC binds with SO_REUSEPORT: two servers share one port without an error, and each gets half the calls.
EXCLUSIVE_PORT_OPTIONS: Final = (("grpc.so_reuseport", 0),)


def bind_listener(
    server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None = None
) -> Address:
    """Bind ``server`` to ``address`` and return the address that it got; for a Unix socket, hold its lease first.

    Args:
        server: Not yet started, and made with ``EXCLUSIVE_PORT_OPTIONS`` among its options.
        address: Where to listen; with port 0 the kernel chooses.
        credentials: None for plain text.

    Raises:
        SocketInUse: The address is taken, or is none of this host's.
    """
    target = format_address(address)
    # A Unix socket is open to nobody else until `SocketLease.publish` says to whom: who got in before would stay.
    umask = os.umask(0o177)
    try:
        port = server.add_secure_port(target, credentials) if credentials else server.add_insecure_port(target)
    except RuntimeError:
        raise SocketInUse(f"{target}: cannot be bound; another server listens there, or it is not ours") from None
    finally:
        os.umask(umask)
    return replace(address, port=port) if isinstance(address, TcpAddress) else address
