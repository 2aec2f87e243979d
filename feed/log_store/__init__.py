"""Where the log is kept: entries sealed, the tree's nodes, the folded state, and what was answered to whom."""
