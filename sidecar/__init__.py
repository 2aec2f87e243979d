"""The policy decision point: answers from a local, encrypted, verified copy of the log, and leaves a record of every decision."""
