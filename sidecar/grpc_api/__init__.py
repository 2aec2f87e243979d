"""The sidecar's gRPC surface: bytes in, bytes out; wire types end here."""
