"""What this package raises. A check itself never raises any of these: it answers, and every failure is a deny."""


class ConsentryError(Exception):
    """Root of everything that this package raises.

    Attributes:
        reason: Stable name of what happened, UPPER_SNAKE.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self._message = message

    def __str__(self) -> str:
        return f"{self._message} [{self.reason}]"


class ConfigurationError(ConsentryError):
    """The client was set up in a way that cannot work; raised when it is made, never by a question."""


class TokenFormatError(ConsentryError):
    """A consistency token does not have the form `origin:seq`."""


class StatusError(ConsentryError):
    """The sidecar did not tell its status.

    Attributes:
        reason: One of the client-only names of `Reason`, such as CLIENT_UNAVAILABLE.
        error: Name of the gRPC status code, or nothing.
    """

    def __init__(self, reason: str, message: str, error: str = "") -> None:
        super().__init__(reason, message)
        self.args = (reason, message, error)
        self.error = error


class IntakeError(ConsentryError):
    """A person's request was not accepted, or the client cannot tell whether it was.

    Attributes:
        reason: The feed's stable name for the refusal, or the client's own.
        error: Name of the gRPC status code, or nothing.
        idempotency_key: Repeat the request with this key: it cannot then be recorded twice.
        outcome_unknown: The request was sent and not clearly refused, so it may have been recorded all the same.
    """

    def __init__(
        self, reason: str, message: str, error: str = "", idempotency_key: str = "", outcome_unknown: bool = False
    ) -> None:
        super().__init__(reason, message)
        self.args = (reason, message, error, idempotency_key, outcome_unknown)
        self.error = error
        self.idempotency_key = idempotency_key
        self.outcome_unknown = outcome_unknown
