"""What asks feeds and sidecars over gRPC; nothing that they answer is believed."""
