"""The command `tracecall`, also `python -m tracecall`: quick to begin and quick to end."""

import atexit
import gc
import os
import sys
import threading


def entry() -> None:
    """Run the command line, and end without taking torch apart object by object (half a second)."""
    gc.disable()  # of what is imported nothing is garbage; looking for it takes a tenth of the way to --help
    from tracecall.cli import main

    gc.enable()
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
        if threading.active_count() > 1:  # the model's own threads are waited for, as Python does
            raise
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    entry()
