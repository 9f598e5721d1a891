"""What `tracecall compare` found: both runs call by call, the errors of their outputs, what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tracecall.calls import Call, Trace
from tracecall.comparison import Difference

if TYPE_CHECKING:
    from tracecall.recording.output_errors import OutputError


@dataclass
class Comparison:
    """All that the page says: both runs, the error of each pair's output in the order in which the calls ended."""

    difference: Difference
    errors: dict[int, OutputError]  # by the id of the first run's call
    names: tuple[str, str]  # what sets the runs apart: "float32", "bfloat16"
    tolerance: float  # of `OutputError.relative`
    why: str  # where it comes from: "the default for bfloat16", "--tolerance"
    uncompared: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def parted(self) -> Call | None:
        """The first call whose outputs are further apart than the tolerance."""
        first = next((one for one, error in self.errors.items() if error.beyond(self.tolerance)), None)
        return None if first is None else self._calls[first]

    @property
    def failed(self) -> bool:
        """Whether anything is beyond the tolerance, a forward raised, or there was nothing to compare."""
        return self.parted is not None or not self.compared or self.raised

    @property
    def compared(self) -> list[OutputError]:
        """The errors of outputs of which anything could be compared."""
        return [error for error in self.errors.values() if error.compared]

    @property
    def raised(self) -> bool:
        """Whether a forward raised."""
        return any(trace.error is not None for trace in (self.difference.before, self.difference.after))

    def asked(self, dtypes: tuple[str, str]) -> bool:
        """Whether two dtypes are what sets the runs apart by name."""
        return all(dtype in name.split() for dtype, name in zip(dtypes, self.names, strict=True))

    def named(self, first: int) -> str:
        """A call by the id of the first run's: a module by its path, an operation with that of its module."""
        call = self._calls[first]
        if call.kind == "module":
            return call.path or "the root"
        return f"{call.name} in {call.path}" if call.path else call.name

    @property
    def _calls(self) -> dict[int, Call]:
        return {id(pair.before): pair.before for _, pair in self.difference.walk() if pair.before is not None}


def failing(trace: Trace) -> Call | None:
    """The innermost call that failed and is not inside of one of torch's own modules."""
    return next((call for call in reversed(trace.failed()) if not call.internal), None)
