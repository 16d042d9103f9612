"""Progress of long work with an ETA: a bar on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from costmodels.progress import OnProgress
from tvm_integration.cli.formatting import duration_text

EVERY_S = 15.0
"""Between two lines where there is no terminal to draw on."""


@contextmanager
def progress_bar(console: Console, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show how far work has come, with a text that the work gives.

    Parameters
    ----------
    console : Console
        Where; on a terminal it redraws.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    callable
        To be told how much is done, how much there is, and the text.
    """
    columns = (
        BarColumn(),
        TextColumn(f"{{task.completed:.0f}} of {{task.total:.0f}} {unit}"),
        TextColumn("{task.description}"),
    )
    last_s = -EVERY_S
    untold = ""
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=None, visible=False)

        def show(done: int, total: int, text: str) -> None:
            nonlocal last_s, untold
            progress.update(bar, completed=done, total=total, description=text, visible=True)
            due = done >= total or time.monotonic() - last_s >= EVERY_S
            untold = "" if due else f"{done} of {total} {unit}, {text}"
            if not console.is_terminal and due:
                last_s = time.monotonic()
                console.print(f"{done} of {total} {unit}, {text}", soft_wrap=True)

        yield show
        if untold and not console.is_terminal:  # it ended before its end, as training may
            console.print(untold, soft_wrap=True)


@contextmanager
def counted(console: Console, unit: str) -> Iterator[OnProgress]:
    """Show how far work has come whose parts take alike long.

    Parameters
    ----------
    console : Console
        Where; on a terminal it redraws.
    unit : str
        What is counted, in the plural.
    """
    with timed_bar(console, unit) as show:
        yield lambda done, total: show(done, total, "")


@contextmanager
def timed_bar(console: Console, unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show how far work has come whose parts take alike long, with a text that the work gives.

    Parameters
    ----------
    console : Console
        Where; on a terminal it redraws.
    unit : str
        What is counted, in the plural.
    """
    start: float | None = None
    first = 0
    with progress_bar(console, unit) as show:

        def on_progress(done: int, total: int, text: str) -> None:
            nonlocal start, first
            if start is None:
                start, first = time.monotonic(), done
            elapsed_s = time.monotonic() - start
            now_done = done - first  # what an earlier run did took none of this one's time
            left_s = elapsed_s / now_done * (total - done) if now_done else None
            time_text = f"elapsed {duration_text(elapsed_s)}, ETA {duration_text(left_s)}"
            show(done, total, ", ".join(part for part in (text, time_text) if part))

        yield on_progress


@contextmanager
def staged(
    console: Console, first: str, unit: str
) -> Iterator[tuple[Callable[[str], None], OnProgress]]:
    """Show what is going on, and once something is counted how far it has come.

    Parameters
    ----------
    console : Console
        Where; on a terminal it redraws.
    first : str
        What goes on at the beginning.
    unit : str
        What is counted, in the plural.

    Yields
    ------
    tuple of callables
        To be told a stage; to be told how much is done, and how much there is.
    """
    with ExitStack() as shown:
        status = shown.enter_context(console.status(first))
        show: OnProgress | None = None

        def on_progress(done: int, total: int) -> None:
            nonlocal show
            if show is None:
                status.stop()  # a terminal has room for one of them
                show = shown.enter_context(counted(console, unit))
            show(done, total)

        yield status.update, on_progress
