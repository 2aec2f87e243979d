"""What the telemetry raises."""

from hosting.errors import HostingError


class TelemetryMisconfigured(HostingError):
    """A standard OTEL variable cannot be followed, so the start stops. The text names the variable and never its value."""

    reason = "TELEMETRY_MISCONFIGURED"
