"""The encrypted local copy of the log's state, and the table in memory that answers from it.

`store` is the way in. A cache directory holds one SQLite file whose every value is sealed (`sealing`, `manifest`): the table of the last
merge in segments, what came since in deltas. docs/architecture.md tells what survives which crash.
"""
