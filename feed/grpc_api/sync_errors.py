"""What can be wrong between a sidecar's log and the feed's."""

from feed.errors import FeedError


class LogFork(FeedError):
    """A sidecar holds another history of the same size. Unexpected: somebody must look."""

    reason = "LOG_FORK"
