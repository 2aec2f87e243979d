"""Replay: every recorded decision computed anew from the log, and compared with what the record says was answered."""
