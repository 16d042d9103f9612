"""The limit of time that a user gives."""

import time

from costmodels.errors import InputError


class TimeLimit:
    """Runs from when it is made.

    Parameters
    ----------
    minutes : float, optional
        Above 0; without it there is no limit.

    Raises
    ------
    InputError
        When it is 0, negative or no number.
    """

    def __init__(self, minutes: float | None) -> None:
        if minutes is not None and not minutes > 0:
            raise InputError(f"minutes must be above 0, got {minutes:g}")
        self._end_s = None if minutes is None else time.monotonic() + 60 * minutes

    def is_over(self) -> bool:
        """Whether the time is up."""
        return self._end_s is not None and time.monotonic() > self._end_s
