"""The witness: an independent program that cosigns a log's checkpoints as long as it sees the log only grow."""
