"""`python -m infra` is `headstart`, where the command is not installed."""

from infra.cli import main

main()
