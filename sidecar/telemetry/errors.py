"""What the telemetry raises."""

from sidecar.errors import SidecarError


class TelemetryMisconfigured(SidecarError):
    """A standard OTEL variable cannot be followed, so the start stops. The text names the variable and never its value."""

    reason = "TELEMETRY_MISCONFIGURED"
