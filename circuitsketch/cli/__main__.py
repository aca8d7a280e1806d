"""`python -m circuitsketch.cli` is `circuitsketch`."""

from circuitsketch.cli import main

if __name__ == "__main__":  # not in the workers of an MPI job, which import the program that runs
    main()
