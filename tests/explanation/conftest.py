"""What every test of the story proves besides its own rule: nothing is left behind."""

from tests.zoo.conftest import nothing_is_left

__all__ = ["nothing_is_left"]
