"""Errors of the sidecar."""


class SidecarError(Exception):
    """Root of what this package raises; the text never holds personal data."""

    reason = "SIDECAR_ERROR"


class InvalidArgument(SidecarError):
    """The caller's message cannot be decoded or breaks a limit. Expected: the text names the field."""

    reason = "INVALID_ARGUMENT"


class MethodNotPermitted(SidecarError):
    """The listener does not offer this method, or not this use of it. Expected."""

    reason = "METHOD_NOT_PERMITTED"


class SegmentUnknown(SidecarError):
    """There is no such segment of the journal. Expected: it may have been disposed of since it was listed."""

    reason = "SEGMENT_UNKNOWN"


class TooManyReaders(SidecarError):
    """Others read the journal at the moment, as many as may. Expected: try again later."""

    reason = "TOO_MANY_READERS"


class ShipperMisconfigured(SidecarError):
    """The shipper cannot follow its settings, the `OTEL_*` variables above all. Expected: its own message says which."""

    reason = "SHIPPER_MISCONFIGURED"


class MissingExtra(SidecarError):
    """The settings name something whose packages are not installed. Expected: the text names the extra."""

    reason = "MISSING_EXTRA"


class KeyServiceError(SidecarError):
    """Root of what a key service (AWS KMS, Vault) fails with."""

    reason = "KEY_SERVICE_ERROR"


class KeyServiceUnavailable(KeyServiceError):
    """The key service does not answer. Expected: a start is tried again until it does, and what runs does not need it."""

    reason = "KEY_SERVICE_UNAVAILABLE"


class KeyServiceRefused(KeyServiceError):
    """The key service refuses this program, or the key in the settings is not there or disabled. Somebody must look."""

    reason = "KEY_SERVICE_REFUSED"


class CacheError(SidecarError):
    """Root of what the cache raises."""

    reason = "CACHE_ERROR"


class WrongCacheKey(CacheError):
    """The key does not open the cache file; the file is left as it is. Expected after a mix-up of keys."""

    reason = "WRONG_CACHE_KEY"


class MissingCacheKey(CacheError):
    """There is a cache file and no key. Starting without it would throw the data away, so the start fails."""

    reason = "MISSING_CACHE_KEY"


class ForeignCache(CacheError):
    """The cache file belongs to another sidecar, tenant or log. Expected after a mix-up of volumes."""

    reason = "FOREIGN_CACHE"


class CorruptCache(CacheError):
    """The cache file was changed or damaged; it is set aside and rebuilt from the feed."""

    reason = "CORRUPT_CACHE"


class CacheWriteFailed(CacheError):
    """The cache cannot keep what was verified (a full or broken disk); what was in force stays in force."""

    reason = "CACHE_WRITE_FAILED"


class JournalUnavailable(SidecarError):
    """The record cannot be kept: no record, no answer. Expected with a full disk."""

    reason = "JOURNAL_UNAVAILABLE"


class SyncError(SidecarError):
    """Root of what `trusted_log` and the follower raise about what the feed sent; the reason goes into status, metrics and log."""

    reason = "SYNC_ERROR"


class FeedUnavailable(SyncError):
    """The feed cannot be reached, or closed the stream. Expected: answers go on from the cache."""

    reason = "FEED_UNAVAILABLE"


class FeedUntrusted(SyncError):
    """The TLS handshake with the feed failed here; the text says what was wrong with its certificate: time, authority or name.

    Unexpected: somebody must look.
    """

    reason = "FEED_UNTRUSTED"


class OwnCertificateExpired(SyncError):
    """The feed cannot be reached, and this sidecar's own certificate has expired: the feed, which sees it, only closes the connection.

    Unexpected: somebody must renew it.
    """

    reason = "OWN_CERTIFICATE_EXPIRED"


class OwnCertificateNotYetValid(SyncError):
    """The feed cannot be reached, and this sidecar's own certificate is not valid yet. Unexpected: a clock may be wrong."""

    reason = "OWN_CERTIFICATE_NOT_YET_VALID"


class FeedRefused(SyncError):
    """The feed refused this sidecar (certificate, tenant, name). Unexpected: somebody must look."""

    reason = "FEED_REFUSED"


class RefusedAsRetired(FeedRefused):
    """The feed's operator has retired this sidecar; it must be enrolled anew. Expected after it was replaced."""

    reason = "SIDECAR_RETIRED"


class RefusedAsNotEnrolled(FeedRefused):
    """No key of this sidecar is enrolled, so nothing that it signs counts. Expected before its enrolment."""

    reason = "NOT_ENROLLED"


class RefusedHead(FeedRefused):
    """The feed does not log a head or a disposal, now or later. Unexpected: somebody must look."""

    reason = "HEAD_INVALID"


class RefusedAsFork(RefusedHead):
    """The log holds another head at the same place of the chain: this journal was rolled back, or written twice."""

    reason = "HEAD_CONFLICT"


class FollowerFault(SyncError):
    """Following the feed failed in a way that nobody foresaw: a defect here. Answers go on, and the next attempt follows."""

    reason = "FOLLOWER_FAULT"


class MalformedFrame(SyncError):
    """A message of the feed is not what the protocol allows, or too large."""

    reason = "MALFORMED_FRAME"


class SequenceGap(SyncError):
    """Entries are missing between what is held and what came."""

    reason = "SEQUENCE_GAP"


class RootMismatch(SyncError):
    """The entries do not hash to the checkpoint's root: something was changed, reordered or left out."""

    reason = "ROOT_MISMATCH"


class LogRollback(SyncError):
    """The checkpoint is of a smaller log than the one held."""

    reason = "LOG_ROLLBACK"


class LogFork(SyncError):
    """The same size with another root: two histories."""

    reason = "LOG_FORK"


class CheckpointFromFuture(SyncError):
    """The checkpoint's time is later than now plus the allowed skew."""

    reason = "CHECKPOINT_FROM_FUTURE"


class CheckpointRejected(SyncError):
    """The checkpoint's signatures or text do not pass; the text names the inner reason."""

    reason = "CHECKPOINT_REJECTED"


class EntryRejected(SyncError):
    """An entry is not a valid event of this log; the text names the inner reason."""

    reason = "ENTRY_REJECTED"


class SnapshotRejected(SyncError):
    """A snapshot's content is not what the log commits to."""

    reason = "SNAPSHOT_REJECTED"


class KeyRingRejected(SyncError):
    """The subject key that came is not the one that the log commits to."""

    reason = "KEY_RING_REJECTED"
