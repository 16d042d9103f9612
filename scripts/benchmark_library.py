"""What known schedules save: a second network, tuned after a first that resembles it, and without.

    python scripts/benchmark_library.py

For each pair and seed the second network is tuned from nothing; from what ships; and from that and
what tuning the first one left, which has as many trials. Counted are the trials until its kernels
add up to what they do at the end of the run from nothing. The trees begin with nothing. Each run is
a process of its own, with a cache folder of its own. Writes docs/benchmarks/library.json and prints
a table.
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results, run_child

PAIRS = (
    ("zoo:vision_transformer,number=1", "zoo:vision_transformer,number=2"),
    ("zoo:fire,number=1", "zoo:fire,number=2"),
    ("zoo:mixer,number=1", "zoo:mixer,number=2"),
)
TRIALS, BATCH = 256, 16
STARTS = ("nothing", "what ships", "a first network")


def tune(network: str, seed: int, *, library: bool) -> list[tuple[int, float]]:
    """Trials, and what the kernels add up to after them, in seconds."""
    from tvm_integration import TuneOptions, tune_network

    curve: list[tuple[int, float]] = []

    def on_state(state: Any) -> None:
        totals = [kernel.total_s for kernel in state.kernels]
        if totals and None not in totals:
            curve.append((state.trials, sum(totals)))

    with tempfile.TemporaryDirectory() as folder:
        options = TuneOptions(
            Path(folder) / "work",
            trials=TRIALS,
            trials_per_iter=BATCH,
            seed=seed,
            cost_model="gbt",
            library=library,
            check=False,
        )
        tune_network(network, "host", options, on_state)
    return curve


def second_after(first: str, second: str, seed: int, start: str) -> list[list[float]]:
    """The second network's curve."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache  # of the children
        library = [] if start == "nothing" else ["--library"]
        if start == "a first network":
            run_child("--tune", first, str(seed + 100), *library)
        found: list[list[float]] = run_child("--tune", second, str(seed), *library)["curve"]
        return found


def trials_until(curve: list[list[float]], seconds: float) -> int:
    """How many trials a run took until it was as fast; all of them where it never was."""
    return int(next((trials for trials, total in curve if total <= seconds), TRIALS))


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--tune", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--library", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.tune:
        network, seed = options.tune
        print(json.dumps({"curve": tune(network, int(seed), library=options.library)}))
        return
    results = Results(ROOT / "docs/benchmarks/library.json", fresh=options.fresh)
    rows = []
    for first, second in PAIRS:
        trials: dict[str, list[int]] = {start: [] for start in STARTS}
        ratios: dict[str, list[float]] = {start: [] for start in STARTS}
        for seed in range(1, options.seeds + 1):
            curves = {
                start: results.get(
                    f"{second} | {seed} | {start}", second_after, first, second, seed, start
                )
                for start in STARTS
            }
            end = curves["nothing"][-1][1]
            for start, curve in curves.items():
                trials[start].append(trials_until(curve, end))
                ratios[start].append(curve[-1][1] / end)
        cells = [f"{statistics.fmean(trials[start]):.0f}" for start in STARTS]
        cells += [f"{statistics.geometric_mean(ratios[start]):.2f}" for start in STARTS[1:]]
        rows.append(f"| {first} | {second} | " + " | ".join(cells) + " |")
    print(f"{results.header()}\n")
    print(
        "| first | second | trials from nothing | from what ships | after the first | latency at "
        "the end, from what ships | after the first |\n" + "|---" * 7 + "|"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
