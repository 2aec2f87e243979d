"""The shared, pure language of Consentry: subjects, purposes, events, state, the decision function and the log's proofs.

Nothing here does I/O, reads a clock or knows a transport, so that sidecar, feed and auditor compute the same answers from the same bytes.
"""
