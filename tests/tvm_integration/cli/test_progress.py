"""Progress without a terminal: now and then a line with what is done and the time left."""

import io

from rich.console import Console

from tvm_integration.cli import progress


class Clock:
    """Stands in for `time` in the module."""

    now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


def test_lines_where_there_is_no_terminal(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    console = Console(file=io.StringIO(), width=200)
    with progress.counted(console, "programs") as on_progress:
        for done in (0, 25, 50, 75, 100):
            on_progress(done, 100)
            clock.now_s += 10.0
    assert console.file.getvalue().splitlines() == [
        "0 of 100 programs, elapsed 0:00, ETA -",
        "50 of 100 programs, elapsed 0:20, ETA 0:20",
        "100 of 100 programs, elapsed 0:40, ETA 0:00",
    ]


def test_what_ends_early_is_told(monkeypatch):
    monkeypatch.setattr(progress, "time", Clock())
    console = Console(file=io.StringIO(), width=200)
    with progress.counted(console, "steps") as on_progress:
        for done in (0, 1, 2):
            on_progress(done, 100)
    assert [line.partition(",")[0] for line in console.file.getvalue().splitlines()] == [
        "0 of 100 steps",
        "2 of 100 steps",
    ]


def test_a_bar_on_a_terminal():
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with progress.counted(console, "programs") as on_progress:
        on_progress(50, 100)
    shown = console.file.getvalue()
    assert "50 of 100 programs" in shown
    assert "ETA" in shown
