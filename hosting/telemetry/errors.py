"""What the telemetry raises."""

from hosting.errors import HostingError


class TelemetryMisconfigured(HostingError):
    """A standard OTEL variable cannot be followed, so the start stops. The text names the variable and never its value."""

    reason = "TELEMETRY_MISCONFIGURED"


class SpansRefused(HostingError):
    """A receiver took an export and said in its answer that it has rejected spans; which ones, it does not say.

    Attributes:
        count: How many.
    """

    reason = "SPANS_REFUSED"

    def __init__(self, count: int) -> None:
        super().__init__(f"the receiver has rejected {count} spans")
        self.count = count
