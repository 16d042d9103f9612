"""How long the command line takes to start, and how much memory an estimate takes.

Whole processes, seven of each, in turn with those of another build, if one is given: ``--before
PYTHON`` names the interpreter of an environment in which it is installed. Writes nothing; prints a
table.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

REPEATS = 7
CLI = ("-m", "tvm_integration.cli")
CASES: Mapping[str, Sequence[str]] = {
    "costmodels --help": (*CLI, "--help"),
    "import tvm_integration": ("-c", "import tvm_integration"),
    "estimate zoo:resnet50, from the cache": (*CLI, "estimate", "zoo:resnet50"),
}
FIRST = (*CLI, "estimate", "zoo:resnet50")
"""Its memory is taken with an empty cache."""


def measure(python: str, arguments: Sequence[str], cache: str) -> tuple[float, float]:
    """Seconds and GiB (largest resident set) of a process."""
    # In a process between: `ru_maxrss` of children is the largest of all that ended so far.
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        environment = {**os.environ, "XDG_CACHE_HOME": cache}
        start = time.perf_counter()
        done = subprocess.run(
            [python, *arguments],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=os.path.dirname(cache),
            check=False,
        )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        os.write(write_end, f"{done.returncode} {seconds} {peak}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    code, seconds_text, peak_text = os.read(read_end, 1000).decode().split()
    os.close(read_end)
    os.close(write_end)
    if code != "0":
        sys.exit(f"{python} {' '.join(arguments)} must end with 0, got {code}")
    return float(seconds_text), float(peak_text)


def shown(values: Sequence[float], unit: str) -> str:
    """Median, least and most."""
    low, high = min(values), max(values)
    return f"{statistics.median(values):.3f} {unit} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Measure all cases, builds in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", metavar="PYTHON", help="of an environment with another build")
    options = parser.parse_args()
    builds = {"now": sys.executable}
    if options.before is not None:
        builds["before"] = options.before
    with tempfile.TemporaryDirectory() as folder:
        caches: dict[str, str] = {}
        memory: dict[str, list[float]] = {name: [] for name in builds}
        for number in range(REPEATS):
            for name, python in builds.items():
                fresh = os.path.join(folder, f"{name}{number}")
                os.mkdir(fresh)
                memory[name].append(measure(python, FIRST, fresh)[1])
                caches[name] = fresh
        for case, arguments in CASES.items():
            found: dict[str, list[float]] = {name: [] for name in builds}
            for _ in range(REPEATS):
                for name, python in builds.items():
                    found[name].append(measure(python, arguments, caches[name])[0])
            print(case)
            for name, values in found.items():
                print(f"  {name:7} {shown(values, 's')}")
            if "before" in found:
                ratios = [a / b for a, b in zip(found["now"], found["before"], strict=True)]
                print(f"  ratio   {shown(ratios, '')}")
    print("estimate zoo:resnet50, the first: largest resident set")
    for name, peaks in memory.items():
        print(f"  {name:7} {shown(peaks, 'GiB')}")


if __name__ == "__main__":
    main()
