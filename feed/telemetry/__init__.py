"""What the feed says of itself while it works."""
