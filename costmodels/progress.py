"""How long work tells its caller how far it has come."""

from collections.abc import Callable
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[int, int], None]
"""Told how much is done, and how much there is."""


def no_progress(done: int, total: int) -> None:
    """Show nothing."""
