"""`python -m witness`."""

from witness.cli import main

main()
