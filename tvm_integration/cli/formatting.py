"""Numbers and consoles as all commands show them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["duration_text", "seconds_text", "size_text", "wide_console"]


def duration_text(seconds: float | None) -> str:
    """A duration as minutes and seconds, or a dash.

    Examples
    --------
    >>> duration_text(75.2)
    '1:15'
    """
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds_text(seconds: float | None) -> str:
    """A latency with a unit that suits it, or a dash.

    Examples
    --------
    >>> seconds_text(0.00123), seconds_text(4.5e-05), seconds_text(None)
    ('1.23 ms', '45 µs', '-')
    """
    if seconds is None:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def size_text(size_bytes: int) -> str:
    """A size with a unit that suits it.

    Examples
    --------
    >>> size_text(0), size_text(1_500), size_text(118_000_000)
    ('0 B', '1.5 kB', '118 MB')
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= size:
            return f"{size_bytes / size:.3g} {unit}"
    return f"{size_bytes} B"


def wide_console(width: int, *, stderr: bool = False) -> "Console":
    """Return a console on which the names of users' kernels and layers are no markup.

    Parameters
    ----------
    width : int
        Columns of output that goes to a file or a pipe; a terminal has its own.
    stderr : bool
        Print there instead of on stdout.
    """
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = width
    return console
