"""`python -m circuitsketch.cli` is `circuitsketch`."""

from circuitsketch.cli import main

main()
