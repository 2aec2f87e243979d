"""Following the feed: everything that comes is verified in `trusted_log` before anything else sees it."""
