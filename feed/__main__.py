"""`python -m feed`."""

from feed.cli import main

main()
