"""What every test shares."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `cuda` where torch finds no CUDA device."""
    needing_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if not needing_cuda:
        return
    import torch  # seconds: only when something asks for it

    if not torch.cuda.is_available():
        for item in needing_cuda:
            item.add_marker(pytest.mark.skip(reason="no CUDA device: torch.cuda.is_available() is False"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in plain words what was compared, counted from what the tests recorded and whether they passed."""

    def recorded(outcome: str, name: str) -> list[object]:
        reports = terminalreporter.stats.get(outcome, [])
        return [value for report in reports for key, value in report.user_properties if key == name]

    if compared := {*recorded("passed", "architecture"), *recorded("failed", "architecture")}:
        equal = compared - {*recorded("failed", "architecture")}
        terminalreporter.write_line(
            f"witness: {len(equal)} architectures of transformers equal torch.profiler's record call for call"
        )
    if models := recorded("passed", "random models"):
        terminalreporter.write_line(f"hypothesis: {models[0]} random models, each recorded as the tree that it is")
