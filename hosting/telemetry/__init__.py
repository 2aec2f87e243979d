"""What every program says of itself to OpenTelemetry: where it goes, who sends it, and the names in it."""
