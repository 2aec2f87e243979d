"""Which status each error is answered with: one total table, walked by a test."""

import grpc

from consent.errors import ConsentError
from consent.eventlog.errors import EventLogError
from consent.policy import PolicyError
from hosting.errors import HostingError
from journal.errors import InvalidSegmentKey, JournalError
from sidecar.errors import (
    CacheError,
    InvalidArgument,
    JournalUnavailable,
    KeyServiceError,
    MethodNotPermitted,
    SegmentUnknown,
    SidecarError,
    SyncError,
    TooManyReaders,
)

STATUSES: dict[type[Exception], grpc.StatusCode] = {
    # The caller's fault.
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    MethodNotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    InvalidSegmentKey: grpc.StatusCode.INVALID_ARGUMENT,
    SegmentUnknown: grpc.StatusCode.NOT_FOUND,
    # Nobody's fault, for the moment.
    JournalUnavailable: grpc.StatusCode.UNAVAILABLE,
    KeyServiceError: grpc.StatusCode.UNAVAILABLE,
    TooManyReaders: grpc.StatusCode.RESOURCE_EXHAUSTED,
    CacheError: grpc.StatusCode.UNAVAILABLE,
    SyncError: grpc.StatusCode.UNAVAILABLE,
    # Ours: none of these should reach a call.
    SidecarError: grpc.StatusCode.INTERNAL,
    HostingError: grpc.StatusCode.INTERNAL,
    ConsentError: grpc.StatusCode.INTERNAL,
    EventLogError: grpc.StatusCode.INTERNAL,
    PolicyError: grpc.StatusCode.INTERNAL,
    JournalError: grpc.StatusCode.INTERNAL,
}
