"""The one error that users see as a line: what was given, what is possible, what to type."""


class TracecallError(Exception):
    """The command cannot be carried out (no such model, no CUDA, a bad shape).

    Its text is one line without a traceback; `tracecall` prints it on stderr and exits with 2.
    """
