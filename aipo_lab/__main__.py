"""`python -m aipo_lab` is the command line."""

from aipo_lab.cli import main

if __name__ == "__main__":
    main()
