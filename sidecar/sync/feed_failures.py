"""What went wrong on the way to the feed, out of what gRPC tells of it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import grpc

from hosting.certificates import Validity
from sidecar.errors import (
    FeedRefused,
    FeedUnavailable,
    FeedUntrusted,
    MalformedFrame,
    OwnCertificateExpired,
    OwnCertificateNotYetValid,
    RefusedAsFork,
    RefusedAsNotEnrolled,
    RefusedAsRetired,
    RefusedHead,
    SidecarError,
)

_REFUSALS: Final = frozenset(
    {
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INVALID_ARGUMENT,
    }
)

_NAMED_REFUSALS: Final[Mapping[type[FeedRefused], str]] = MappingProxyType(
    {
        RefusedAsRetired: "the feed's operator has retired this sidecar; it must be enrolled anew",
        RefusedAsNotEnrolled: "no key of this sidecar is enrolled",
        RefusedHead: "the feed does not take a head or a disposal of the journal",
        RefusedAsFork: "the log holds another head at this place of the journal",
    }
)
"""Refusals that the feed names at the beginning of its text, and what they mean here."""

UNTRUSTED: Final = (
    ("certificate has expired", "the feed's certificate, or one that it leads to, has expired"),
    ("certificate is not yet valid", "the feed's certificate is not valid yet; is a clock wrong?"),
    ("Hostname Verification Check failed", "the feed's certificate is not for the host in feed.address"),
    ("CERTIFICATE_VERIFY_FAILED", "the feed's certificate is of no authority in feed.tls.ca_file"),
)
"""What stands in the text of a failed handshake, and what it means; the first that fits counts.

gRPC has no status of its own for it: BoringSSL's words (`X509_verify_cert_error_string`) and its own are all there is.
"""

# How a server that refuses a client's certificate looks from here: TLS 1.3 has no answer that gRPC would hand on.
_CLOSED_IN_HANDSHAKE: Final = "Socket closed"


def make_error(code: grpc.StatusCode, details: str | None, own: Validity | None) -> SidecarError:
    """Return the error that a failed call means.

    Args:
        code: Status of the call.
        details: Its text.
        own: Whether the certificate that the call was made with is valid; None without TLS.
    """
    details = details or ""
    if code in _REFUSALS:
        return _make_refusal(code, details)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        is_flood = details.startswith("OVERLOADED:")
        return FeedUnavailable(code.name) if is_flood else MalformedFrame("a message is larger than the limit")
    if code is not grpc.StatusCode.UNAVAILABLE:
        return FeedUnavailable(code.name)
    # 1. What was wrong with the feed's certificate was seen here.
    for words, meaning in UNTRUSTED:
        if words in details:
            return FeedUntrusted(meaning)
    # 2. What is wrong with our own was seen by the feed, which tells nobody; our clock may be the one that is wrong, so it was
    # tried all the same.
    if own is Validity.EXPIRED:
        return OwnCertificateExpired(
            "the certificate in feed.tls.cert_file has expired, and the feed cannot be reached"
        )
    if own is Validity.NOT_YET_VALID:
        return OwnCertificateNotYetValid("the certificate in feed.tls.cert_file is not valid yet; is a clock wrong?")
    if own is not None and _CLOSED_IN_HANDSHAKE in details:
        return FeedUnavailable(
            "UNAVAILABLE: the feed closed the connection; "
            "if it keeps doing so, the authority of feed.tls.cert_file may be missing in the feed's sync.tls.ca_file"
        )
    return FeedUnavailable(code.name)


def _make_refusal(code: grpc.StatusCode, details: str) -> FeedRefused:
    for refusal, meaning in _NAMED_REFUSALS.items():
        if details.startswith(f"{refusal.reason}:"):
            return refusal(meaning)
    return FeedRefused(f"{code.name}: {details or 'no details'}")
