"""`python -m tracecall` is the command `tracecall`."""

from tracecall.cli import main

if __name__ == "__main__":
    main()
