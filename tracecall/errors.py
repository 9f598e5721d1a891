"""The one error that users see as a line: what was given, what is possible, what to type."""

from collections.abc import Sequence


class TracecallError(Exception):
    """The command cannot be carried out (no such model, no CUDA, a bad shape).

    Its text is one line without a traceback; `tracecall` prints it on stderr and exits with 2. `details` are a few
    further lines, where one cannot hold them: the keys of weights that do not fit.
    """

    def __init__(self, message: str, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.details = tuple(details)
