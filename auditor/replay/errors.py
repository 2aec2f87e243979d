"""What keeps a replay from being made."""

from auditor.errors import AuditorError


class ReplayKeysMissing(AuditorError):
    """The folder holds no keys that lead from pseudonyms back to the log's tokens. Expected: ask the feed for them."""

    reason = "REPLAY_KEYS_MISSING"


class LogNotReplayable(AuditorError):
    """The copy of the log does not fold: it is no such log, or of a later version than this program."""

    reason = "LOG_NOT_REPLAYABLE"
