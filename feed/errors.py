"""Errors of the feed."""


class FeedError(Exception):
    """Root of what this package raises; the text never holds personal data."""

    reason = "FEED_ERROR"


class InvalidRequest(FeedError):
    """A request breaks the contract. Expected: the text names the field and never its value."""

    reason = "INVALID_REQUEST"


class InvalidDirective(InvalidRequest):
    """A directive's fields do not go together, or one of them is not known."""

    reason = "INVALID_DIRECTIVE"


class PurposeUnknown(InvalidRequest):
    """The purpose is not in the policy."""

    reason = "PURPOSE_UNKNOWN"


class NoPolicy(FeedError):
    """No policy was published yet, so no purpose is known. Expected on a new feed."""

    reason = "NO_POLICY"


class SourceNotPermitted(FeedError):
    """The source may not say this (namespace, purpose, proof, or the whole method)."""

    reason = "SOURCE_NOT_PERMITTED"


class IdempotencyKeyReused(FeedError):
    """The key came before with other content."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class ClusterTooLarge(FeedError):
    """A link or a grant would make one person's record larger than any person's."""

    reason = "CLUSTER_TOO_LARGE"


class PolicyConflict(FeedError):
    """The policy does not replace the version in force."""

    reason = "POLICY_CONFLICT"


class PolicyRejected(FeedError):
    """The policy document is not valid; the text says where."""

    reason = "POLICY_REJECTED"


class TrustMismatch(FeedError):
    """The settings and the trust file do not fit together; the text names the setting. The start stops."""

    reason = "TRUST_MISMATCH"


class UnreadableImport(FeedError):
    """A file cannot be imported as a whole; the text names line and cause."""

    reason = "UNREADABLE_IMPORT"


class LogStoreError(FeedError):
    """Root of what the log store raises."""

    reason = "LOG_STORE_ERROR"


class LogWriteFailed(LogStoreError):
    """The log cannot keep an entry (a full or broken disk): nothing of the batch was accepted."""

    reason = "LOG_WRITE_FAILED"


class ArchiveWriteFailed(LogWriteFailed):
    """The archive cannot keep an entry (a full or broken second disk): nothing of the batch was accepted."""

    reason = "ARCHIVE_WRITE_FAILED"


class KeyEpochBegan(FeedError):
    """A key epoch began between signing and logging. Expected, seldom: the same request again is signed anew."""

    reason = "KEY_EPOCH_BEGAN"


class OutcomeUnknown(LogStoreError):
    """A commit failed and the store cannot tell yet whether it happened: repeat the request with the same idempotency key."""

    reason = "OUTCOME_UNKNOWN"


class CorruptLog(LogStoreError):
    """What is stored does not hash to the signed head. The start fails: a log must not go on from there."""

    reason = "CORRUPT_LOG"


class CorruptArchive(LogStoreError):
    """An archive or a backup is damaged, or has a gap. Unexpected: the text names the file."""

    reason = "CORRUPT_ARCHIVE"


class LogRolledBack(LogStoreError):
    """The database is older than this log once was, or gone. Unexpected: accepted requests would be lost; the start fails."""

    reason = "LOG_ROLLED_BACK"


class LogUnmarked(LogStoreError):
    """There is a database and no high-water mark: nobody can tell whether it is an older one. `accept-log` says that it is not."""

    reason = "LOG_UNMARKED"


class HighWaterUnreadable(LogStoreError):
    """The high-water mark cannot be read or written, or is not authentic."""

    reason = "HIGH_WATER_UNREADABLE"


class BackupFailed(LogStoreError):
    """A backup cannot be written or restored here; the text says why."""

    reason = "BACKUP_FAILED"


class LogBehindSidecar(FeedError):
    """A sidecar holds more entries than the log has: the feed runs on an older database. Unexpected: somebody must look."""

    reason = "LOG_BEHIND_SIDECAR"


class ForeignLog(LogStoreError):
    """The file holds the log of another origin or tenant."""

    reason = "FOREIGN_LOG"


class EntryUnknown(FeedError):
    """There is no entry, or no tree, of this number."""

    reason = "ENTRY_UNKNOWN"


class KeyEpochConflict(FeedError):
    """The key epoch asked for is not the next one. Expected where somebody else was faster."""

    reason = "KEY_EPOCH_CONFLICT"


class SubjectKeyUnusable(FeedError):
    """The key file of the next key epoch cannot be made or read; nothing changed."""

    reason = "SUBJECT_KEY_UNUSABLE"


class SidecarNotPermitted(FeedError):
    """The certificate does not name this sidecar."""

    reason = "SIDECAR_NOT_PERMITTED"


class SidecarRetired(FeedError):
    """The sidecar was retired: it is served nothing until it is enrolled anew. Expected after it was replaced."""

    reason = "SIDECAR_RETIRED"


class SidecarUnknown(FeedError):
    """No sidecar of this name is enrolled, or waits for approval. Expected: the operator's list is older."""

    reason = "SIDECAR_UNKNOWN"


class EnrolmentRefused(FeedError):
    """The enrolment token is not one of this feed, another sidecar's, expired or used up."""

    reason = "ENROLMENT_REFUSED"


class AckRejected(FeedError):
    """Root of what can be wrong with a sidecar's acknowledgement. Unexpected: somebody must look."""

    reason = "ACK_REJECTED"


class AckRootMismatch(AckRejected):
    """A sidecar acknowledges another history than this log's."""

    reason = "ACK_ROOT_MISMATCH"


class AckSignatureInvalid(AckRejected):
    """An acknowledgement is not signed by the key that the sidecar is enrolled with."""

    reason = "ACK_SIGNATURE_INVALID"


class SidecarNotEnrolled(FeedError):
    """No key of this sidecar counts: what it signs proves nothing until it is enrolled. Expected before its enrolment."""

    reason = "NOT_ENROLLED"


class JournalHeadRejected(FeedError):
    """Root of what can be wrong with a sidecar's statement about its journal. Unexpected: somebody must look."""

    reason = "HEAD_REJECTED"


class HeadInvalid(JournalHeadRejected):
    """A head or a disposal cannot be read, is not signed by the enrolled key, or stands at no place that it could have."""

    reason = "HEAD_INVALID"


class HeadConflict(JournalHeadRejected):
    """The log holds another head at this place of the chain: the sidecar's journal was rolled back or forked."""

    reason = "HEAD_CONFLICT"


class CallerNotPermitted(FeedError):
    """Whoever calls may not call this method: no certificate that the listener names, or a method of another role."""

    reason = "CALLER_NOT_PERMITTED"


class ShuttingDown(FeedError):
    """The feed drains and takes no more work. Expected."""

    reason = "SHUTTING_DOWN"


class Overloaded(FeedError):
    """Too many requests wait for the sequencer; try again later. Expected under a flood."""

    reason = "OVERLOADED"
