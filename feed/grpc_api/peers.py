"""Which sidecar a call comes from: the certificate says so, a message alone never does."""

import re
from typing import Any, Final

import grpc

from feed.errors import InvalidRequest, SidecarNotPermitted
from hosting.tls import peer_identities

#: As a host name or a pod name is written.
_SIDECAR_ID: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")


def verify_sidecar(
    context: grpc.aio.ServicerContext[Any, Any], sidecar_id: str, *, trust_domain: str | None, is_local_trusted: bool
) -> None:
    """Check that the caller is the sidecar that it says it is.

    Args:
        context: Of the call.
        sidecar_id: As the message names it; the certificate must have the URI `spiffe://<trust_domain>/sidecar/<sidecar_id>`.
            No other name counts: authorities sign host names for many reasons.
        trust_domain: Whose sidecars these are; None where no certificate counts.
        is_local_trusted: Believe a caller on a Unix socket, who has no certificate; for tests and development.

    Raises:
        InvalidRequest: The name has no form that a sidecar's can have.
        SidecarNotPermitted: It is not the caller's.
    """
    if not _SIDECAR_ID.fullmatch(sidecar_id):
        raise InvalidRequest("sidecar_id: must be 1 to 253 letters, digits, dots, hyphens or underscores")
    identities = peer_identities(context.auth_context())
    if not identities and is_local_trusted and context.peer().startswith("unix:"):
        return
    if not trust_domain or f"spiffe://{trust_domain}/sidecar/{sidecar_id}" not in identities:
        expected = f"; expected the URI spiffe://{trust_domain}/sidecar/<sidecar_id>" if trust_domain else ""
        raise SidecarNotPermitted(f"sidecar_id: is not the name in the certificate{expected}")
