"""Channels to what an auditor reads, and what becomes of their failures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from auditor.config import SourceSettings
from auditor.errors import SourceUnavailable
from hosting.grpc_errors import REASON_KEY
from hosting.tls import channel_credentials

# An entry may hold a policy document of 4 MiB, and a page goes on until it is full.
_OPTIONS: Final = [("grpc.max_receive_message_length", 64 << 20)]


@contextmanager
def connected(source: SourceSettings, name: str) -> Iterator[grpc.Channel]:
    """A channel to a source.

    Args:
        source: Where it is.
        name: What to call it in errors.

    Raises:
        SourceUnavailable: It cannot be reached, or refuses.
        TlsError: The own certificate cannot be used.
    """
    if source.tls is None:
        channel = grpc.insecure_channel(source.address, options=_OPTIONS)
    else:
        credentials = channel_credentials(source.tls.cert_file, source.tls.key_file, source.tls.ca_file)
        channel = grpc.secure_channel(source.address, credentials, options=_OPTIONS)
    with channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise SourceUnavailable(f"{name}: {_describe(error)}") from None


def _describe(error: grpc.RpcError) -> str:
    if not isinstance(error, grpc.Call):
        return "no answer"
    # Only a program of ours says a reason; other details may hold anything.
    if any(key == REASON_KEY for key, _ in error.trailing_metadata() or ()):
        return error.details() or error.code().name
    return f"no answer ({error.code().name})"
