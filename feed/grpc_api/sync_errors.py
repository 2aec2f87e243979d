"""What can be wrong between a sidecar's log and the feed's."""

from feed.errors import FeedError


class LogBehindSidecar(FeedError):
    """A sidecar holds more entries than the log has: the feed runs on an older database. Unexpected: somebody must look."""

    reason = "LOG_BEHIND_SIDECAR"


class LogFork(FeedError):
    """A sidecar holds another history of the same size. Unexpected: somebody must look."""

    reason = "LOG_FORK"
