from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from feed.errors import InvalidRequest, SidecarNotPermitted
from feed.grpc_api.peers import verify_sidecar


class Call:
    """What a call's context tells of the peer."""

    def __init__(self, peer: str, uris: tuple[bytes, ...] = (), names: tuple[bytes, ...] = ()) -> None:
        self._peer = peer
        self._auth: dict[str, Iterable[bytes]] = {"peer_uri": uris, "peer_dns": names}
        if uris or names:
            self._auth["transport_security_type"] = (b"ssl",)

    def peer(self) -> str:
        return self._peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return self._auth


LOCAL = Call("unix:")
REMOTE = Call("ipv4:127.0.0.1:4711")


def verify(
    call: Call, sidecar_id: str, *, is_local_trusted: bool = True, trust_domain: str | None = "example.org"
) -> None:
    context: Any = call
    verify_sidecar(context, sidecar_id, trust_domain=trust_domain, is_local_trusted=is_local_trusted)


@pytest.mark.parametrize(
    "call",
    [
        LOCAL,
        Call("unix:/run/feed.sock"),
        Call("ipv4:127.0.0.1:4711", uris=(b"spiffe://example.org/sidecar/pod-1",)),
        Call("ipv4:127.0.0.1:4711", uris=(b"spiffe://example.com/x", b"spiffe://example.org/sidecar/pod-1")),
    ],
)
def test_sidecar_with_its_own_name_is_let_in(call: Call) -> None:
    verify(call, "pod-1")


@pytest.mark.parametrize(
    "call",
    [
        REMOTE,
        Call("unix:", names=(b"pod-2",)),
        Call("ipv4:127.0.0.1:4711", names=(b"pod-1", b"pod-2", b"pod-1.example.org", b"*")),
        Call(
            "ipv4:127.0.0.1:4711", uris=(b"spiffe://example.com/sidecar/pod-1", b"spiffe://EXAMPLE.org/sidecar/pod-1")
        ),
        Call("ipv4:127.0.0.1:4711", uris=(b"spiffe://example.org/sidecar/pod-1/x", b"spiffe://example.org/pod-1")),
        Call(
            "ipv4:127.0.0.1:4711", uris=(b"spiffe://example.org/a/sidecar/pod-1", b"https://example.org/sidecar/pod-1")
        ),
        Call(
            "ipv4:127.0.0.1:4711",
            uris=(b"spiffe:///sidecar/pod-1", b"spiffe://example.org/sidecar/pod-1?x", b"spiffe://sidecar/pod-1"),
        ),
    ],
)
def test_sidecar_with_another_name_or_none_is_refused(call: Call) -> None:
    with pytest.raises(SidecarNotPermitted):
        verify(call, "pod-1")


@pytest.mark.parametrize("trust_domain", [None, "", "example.com"])
def test_sidecar_of_another_trust_domain_or_where_none_is_set_is_refused(trust_domain: str | None) -> None:
    call = Call("ipv4:127.0.0.1:4711", uris=(b"spiffe://example.org/sidecar/pod-1", b"spiffe:///sidecar/pod-1"))
    with pytest.raises(SidecarNotPermitted):
        verify(call, "pod-1", trust_domain=trust_domain)


def test_sidecar_on_a_socket_that_is_not_trusted_is_refused() -> None:
    with pytest.raises(SidecarNotPermitted):
        verify(LOCAL, "pod-1", is_local_trusted=False)


@pytest.mark.parametrize("sidecar_id", ["", "pod 1", "-pod", "pod-", "pod/1", "pöd", "p" * 254, "pod\n", "a:b", ".."])
def test_sidecar_name_of_another_form_is_refused_and_not_repeated(sidecar_id: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        verify(LOCAL, sidecar_id)
    assert not sidecar_id or f"'{sidecar_id}'" not in str(refusal.value)


@pytest.mark.parametrize("sidecar_id", ["a", "pod-1", "Pod_1.example", "p" * 253])
def test_sidecar_name_of_the_right_form_is_taken(sidecar_id: str) -> None:
    verify(LOCAL, sidecar_id)
