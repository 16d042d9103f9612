"""Results of a benchmark: kept in a file, so that it can go on, with where they come from."""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from costmodels.device import detect_host
from costmodels.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent


class Results:
    """Results in a JSON file, saved after each, so that a killed benchmark goes on.

    Parameters
    ----------
    path : Path
        The file; what is in it is not measured again.
    fresh : bool
        Begin anew.
    """

    def __init__(self, path: Path, *, fresh: bool) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.commits: dict[str, str] = {}
        self.machines: dict[str, str] = {}
        self.dates: dict[str, str] = {}
        if path.exists() and not fresh:
            try:
                kept = json.loads(path.read_text())
                self.values, self.commits = dict(kept["values"]), dict(kept["commits"])
                here = dict.fromkeys(self.values, kept["machine"])
                self.machines = here | kept.get("elsewhere", {})
                self.dates = dict(kept.get("dates", {}))
            except (ValueError, KeyError, TypeError) as error:
                sys.exit(
                    f"{path} must be results of this script, got {error!r}: remove it, or begin "
                    "anew with --fresh"
                )

    def get(self, key: str, measure: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Return a result; what is not there yet is measured, with these arguments."""
        if key not in self.values:
            start = time.perf_counter()
            self.values[key] = measure(*arguments, **options)
            self.commits[key] = commit()
            here = self.machines[key] = machine()
            self.dates[key] = str(date.today())
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = {
                "machine": here,
                "elsewhere": {name: each for name, each in self.machines.items() if each != here},
                "commits": self.commits,
                "dates": self.dates,
                "values": self.values,
            }
            write_atomically(self.path, json.dumps(content, indent=1).encode())
            print(f"{key}: {time.perf_counter() - start:.1f} s", flush=True)
        return self.values[key]

    def header(self, parts: Sequence[str] = ("--seeds",)) -> str:
        """The line above a table: when, where, by what command and sources it was measured.

        Parameters
        ----------
        parts : sequence of str
            Options that choose a part of what the table shows; the command is without them.
        """
        arguments: list[str] = []
        is_part = False
        for argument in sys.argv[1:]:
            is_part = argument in parts or (is_part and not argument.startswith("--"))
            if not is_part:
                arguments.append(argument)
        command = shlex.join(["python", f"scripts/{Path(sys.argv[0]).name}", *arguments])
        sources = ", ".join(sorted(set(self.commits.values())))
        machines = "; ".join(sorted(set(self.machines.values()))) or machine()
        dates = sorted({self.date_of(key) for key in self.values} - {"unknown"})
        dates = dates or [str(date.today())]
        when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
        return f"{when}, {machines}, sources {sources}: `{command}`"

    def date_of(self, key: str) -> str:
        """When a result was measured; of those kept without a date that of their sources."""
        if key not in self.dates:
            sources = self.commits.get(key, "unknown").partition(" ")[0]
            self.dates[key] = _git("log", "-1", "--format=%cs", sources) or "unknown"
        return self.dates[key]


def commit() -> str:
    """The last commit that touched the sources, and whether they changed since."""
    sources = ["costmodels", "tvm_integration", "halide_style"]
    last = _git("log", "-1", "--format=%h", "--", *sources) or "unknown"
    return last + (" changed" if _git("status", "--porcelain", "--", *sources) else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> str:
    """One line on the machine."""
    host = detect_host()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    threads = os.environ.get("TVM_NUM_THREADS", f"{host.cores}")
    return (
        f"{host.name}, {host.cores} cores, kernels on {threads} threads, {memory} GiB, "
        f"Python {platform.python_version()}"
    )


def run_child(
    *arguments: str,
    timeout_s: float = 1800,
    hide_torch: bool = False,
    python: str = sys.executable,
    script: str = sys.argv[0],
) -> dict[str, Any]:
    """Run this script, or another, with other arguments; its last line of output is its result.

    With `hide_torch` neither it nor the processes it starts can import torch.
    """
    command = [python, script, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "torch.py").write_text("raise ImportError('hidden')\n")
        environment = {**os.environ, "PYTHONPATH": folder} if hide_torch else None
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
