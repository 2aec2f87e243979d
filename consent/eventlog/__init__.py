"""The event log's proofs: tree, notes, checkpoints, trust. Bytes and time come in, verified values go out."""
