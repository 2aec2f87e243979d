"""What the feed offers over gRPC: the only place that knows the wire types and the status codes."""
