"""Vector files run through the pure decision function and through a real feed and sidecar."""
