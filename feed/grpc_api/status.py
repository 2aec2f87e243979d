"""The one table from errors to gRPC status codes; `hosting.grpc_errors.ErrorBoundary` applies it, the nearest class first."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from grpc import StatusCode

from consent.authority import EvidenceMissing, NotAuthorised
from consent.errors import ConsentError, InvalidIdentifier
from consent.eventlog.errors import EventLogError, InvalidPossession
from consent.key_ring import InvalidKeyRing
from consent.policy import PolicyError
from feed import errors
from feed.grpc_api.sync_errors import LogFork
from hosting.errors import HostingError, MalformedMessage

STATUSES: Final[Mapping[type[Exception], StatusCode]] = MappingProxyType(
    {
        # The caller's fault: the same request will fail again.
        errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
        errors.InvalidDirective: StatusCode.INVALID_ARGUMENT,
        errors.PurposeUnknown: StatusCode.INVALID_ARGUMENT,
        errors.PolicyRejected: StatusCode.INVALID_ARGUMENT,
        errors.UnreadableImport: StatusCode.INVALID_ARGUMENT,
        errors.IdempotencyKeyReused: StatusCode.ALREADY_EXISTS,
        errors.EntryUnknown: StatusCode.NOT_FOUND,
        errors.SourceNotPermitted: StatusCode.PERMISSION_DENIED,
        errors.SidecarNotPermitted: StatusCode.PERMISSION_DENIED,
        errors.SidecarRetired: StatusCode.PERMISSION_DENIED,
        errors.SidecarUnknown: StatusCode.NOT_FOUND,
        errors.EnrolmentRefused: StatusCode.PERMISSION_DENIED,
        errors.AckSignatureInvalid: StatusCode.PERMISSION_DENIED,
        errors.HeadInvalid: StatusCode.INVALID_ARGUMENT,
        InvalidPossession: StatusCode.INVALID_ARGUMENT,
        errors.CallerNotPermitted: StatusCode.PERMISSION_DENIED,
        NotAuthorised: StatusCode.PERMISSION_DENIED,
        EvidenceMissing: StatusCode.INVALID_ARGUMENT,
        InvalidIdentifier: StatusCode.INVALID_ARGUMENT,
        InvalidKeyRing: StatusCode.INVALID_ARGUMENT,
        PolicyError: StatusCode.INVALID_ARGUMENT,
        MalformedMessage: StatusCode.INVALID_ARGUMENT,
        # The log's state forbids it: somebody must change something first.
        errors.SubjectKeyUnusable: StatusCode.FAILED_PRECONDITION,
        errors.NoPolicy: StatusCode.FAILED_PRECONDITION,
        errors.ClusterTooLarge: StatusCode.FAILED_PRECONDITION,
        errors.BackupFailed: StatusCode.FAILED_PRECONDITION,
        errors.LogBehindSidecar: StatusCode.FAILED_PRECONDITION,
        LogFork: StatusCode.FAILED_PRECONDITION,
        errors.AckRejected: StatusCode.FAILED_PRECONDITION,
        errors.AckRootMismatch: StatusCode.FAILED_PRECONDITION,
        errors.SidecarNotEnrolled: StatusCode.FAILED_PRECONDITION,
        errors.JournalHeadRejected: StatusCode.FAILED_PRECONDITION,
        errors.HeadConflict: StatusCode.FAILED_PRECONDITION,
        # Somebody else was faster: read again and decide anew.
        errors.PolicyConflict: StatusCode.ABORTED,
        errors.KeyEpochConflict: StatusCode.ABORTED,
        # For now: the same request may pass later.
        errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
        errors.ShuttingDown: StatusCode.UNAVAILABLE,
        errors.LogWriteFailed: StatusCode.UNAVAILABLE,
        errors.ArchiveWriteFailed: StatusCode.UNAVAILABLE,
        errors.KeyEpochBegan: StatusCode.UNAVAILABLE,
        errors.OutcomeUnknown: StatusCode.UNAVAILABLE,
        errors.LogStoreError: StatusCode.UNAVAILABLE,
        # The feed's own data are wrong.
        errors.CorruptLog: StatusCode.DATA_LOSS,
        errors.CorruptArchive: StatusCode.DATA_LOSS,
        errors.LogRolledBack: StatusCode.DATA_LOSS,
        errors.LogUnmarked: StatusCode.DATA_LOSS,
        errors.HighWaterUnreadable: StatusCode.DATA_LOSS,
        errors.ForeignLog: StatusCode.DATA_LOSS,
        errors.TrustMismatch: StatusCode.INTERNAL,
        # What has no row of its own, of this package or of those below it, should not have come this far.
        errors.FeedError: StatusCode.INTERNAL,
        ConsentError: StatusCode.INTERNAL,
        EventLogError: StatusCode.INTERNAL,
        HostingError: StatusCode.INTERNAL,
    }
)


def status_of(error: BaseException) -> StatusCode:
    """The status that an error is answered with."""
    return next((STATUSES[each] for each in type(error).__mro__ if each in STATUSES), StatusCode.INTERNAL)
