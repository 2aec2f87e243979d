"""What each group of controls takes out of log and journals. Each module holds collectors that are fed once, entry by entry."""
