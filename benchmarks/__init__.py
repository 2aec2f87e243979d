"""One file per question; README.md has the command for each."""
