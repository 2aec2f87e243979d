"""What keeps the log from being lost or going back in time: the checks at a start, archive replay, backups, restores and drills."""
