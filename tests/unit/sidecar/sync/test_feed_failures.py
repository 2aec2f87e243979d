"""What a failed call to the feed means."""

import pytest
from grpc import StatusCode

from hosting.certificates import Validity
from sidecar.sync.feed_failures import make_error

CLOSED = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:1: Socket closed"
ABSENT = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Connection refused"
EXPIRED_PEER = (
    "SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED: certificate has expired: OK"
)


@pytest.mark.parametrize(
    ("code", "details", "own", "reason"),
    [
        (StatusCode.UNAVAILABLE, ABSENT, None, "FEED_UNAVAILABLE"),
        (StatusCode.UNAVAILABLE, ABSENT, Validity.VALID, "FEED_UNAVAILABLE"),
        (StatusCode.UNAVAILABLE, CLOSED, Validity.VALID, "FEED_UNAVAILABLE"),
        (StatusCode.UNAVAILABLE, CLOSED, Validity.ENDING, "FEED_UNAVAILABLE"),
        (StatusCode.UNAVAILABLE, None, Validity.EXPIRED, "OWN_CERTIFICATE_EXPIRED"),
        (StatusCode.UNAVAILABLE, CLOSED, Validity.EXPIRED, "OWN_CERTIFICATE_EXPIRED"),
        (StatusCode.UNAVAILABLE, CLOSED, Validity.NOT_YET_VALID, "OWN_CERTIFICATE_NOT_YET_VALID"),
        (StatusCode.UNAVAILABLE, EXPIRED_PEER, Validity.VALID, "FEED_UNTRUSTED"),
        (StatusCode.UNAVAILABLE, EXPIRED_PEER, Validity.EXPIRED, "FEED_UNTRUSTED"),
        (StatusCode.PERMISSION_DENIED, "SIDECAR_NOT_PERMITTED: no", Validity.EXPIRED, "FEED_REFUSED"),
        (StatusCode.FAILED_PRECONDITION, None, None, "FEED_REFUSED"),
        (StatusCode.PERMISSION_DENIED, "SIDECAR_RETIRED: gone", None, "SIDECAR_RETIRED"),
        (StatusCode.FAILED_PRECONDITION, "NOT_ENROLLED: no key", None, "NOT_ENROLLED"),
        (StatusCode.INVALID_ARGUMENT, "HEAD_INVALID: forged", None, "HEAD_INVALID"),
        (StatusCode.FAILED_PRECONDITION, "HEAD_CONFLICT: forked", None, "HEAD_CONFLICT"),
        (StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED: later", None, "FEED_UNAVAILABLE"),
        (StatusCode.RESOURCE_EXHAUSTED, "larger than max", Validity.EXPIRED, "MALFORMED_FRAME"),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Validity.EXPIRED, "FEED_UNAVAILABLE"),
        (StatusCode.INTERNAL, "CERTIFICATE_VERIFY_FAILED", Validity.VALID, "FEED_UNAVAILABLE"),
    ],
)
def test_make_error_names_whose_fault_it_is(
    code: StatusCode, details: str | None, own: Validity | None, reason: str
) -> None:
    assert make_error(code, details, own).reason == reason


def test_make_error_closed_connection_hints_at_the_certificate_with_tls_alone() -> None:
    assert "feed.tls.cert_file" in str(make_error(StatusCode.UNAVAILABLE, CLOSED, Validity.VALID))
    for details, own in ((CLOSED, None), (ABSENT, Validity.VALID)):
        assert str(make_error(StatusCode.UNAVAILABLE, details, own)) == "UNAVAILABLE"


def test_make_error_repeats_no_address_of_an_unreachable_feed() -> None:
    assert "127.0.0.1" not in str(make_error(StatusCode.UNAVAILABLE, EXPIRED_PEER + " ipv4:127.0.0.1:1", None))
