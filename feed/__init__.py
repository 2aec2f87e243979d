"""The centre: intake of requests, the ordered and signed event log, and its distribution to sidecars."""
