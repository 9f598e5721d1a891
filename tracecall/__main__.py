"""`python -m tracecall` is the command `tracecall`."""

from tracecall.cli import entry

if __name__ == "__main__":
    entry()
