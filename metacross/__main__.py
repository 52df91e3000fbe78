"""`python -m metacross`: the command line."""

from metacross.cli.app import main

if __name__ == "__main__":
    main()
