"""`python -m jupbox`."""

from jupbox.cli import main

main()
