"""Compare searches with and without sketches that pad loops which do not tile.

    python scripts/benchmark_padding.py

Six matrix products, each searched both ways with the same trials and two seeds; the best programs
are then measured in turn, as in a network of 25 MB. Writes docs/benchmarks/padding.json and prints
a table.
"""

import argparse
import contextlib
import math
import statistics
import tempfile
from typing import Any
from unittest.mock import patch

from benchmark_results import ROOT, Results
from benchmark_winners import best_of, geometric_mean

from tvm_integration import MetaScheduleCostModel, SketchSearch, WarmBuilder
from tvm_integration.compat import BuilderInput, IRModule, RunnerInput, meta_schedule, te
from tvm_integration.measure.settings import network_runner
from tvm_integration.targets import host_target

TRIALS, BATCH = 64, 16
SEEDS = (0, 1)
ROUNDS = 7
NETWORK_BYTES = 25_000_000
"""What ViT-Tiny touches."""
PRODUCTS = {
    "ViT-Tiny, projections (48 calls)": (0, 197, 192, 192),
    "ViT-Tiny, second of each MLP (12)": (0, 197, 192, 768),
    "ViT-Tiny, first of each MLP (12)": (0, 197, 768, 192),
    "ViT-Tiny, attention (12)": (3, 197, 197, 64),
    "ViT-Tiny, attention times values (12)": (3, 197, 64, 197),
    "a row of a vocabulary of 50,257": (0, 16, 50257, 64),
}
"""Matrices of a batch, rows, columns, depth."""
WAYS = ("as TVM", "padded, too")


def product(batch: int, rows: int, columns: int, depth: int) -> IRModule:
    """A product of matrices; the second of one alone may be rearranged, as weights are."""
    front = (batch,) if batch else ()
    left = te.placeholder((*front, rows, depth), name="A")
    right = te.placeholder((*front, depth, columns), name="B")
    k = te.reduce_axis((0, depth), name="k")

    def body(*place: Any) -> Any:
        *first, i, j = place
        return te.sum(left[(*first, i, k)] * right[(*first, k, j)], axis=k)

    result = te.compute((*front, rows, columns), body, name="C")
    function = te.create_prim_func([left, right, result])
    if not batch:
        function = function.with_attr("layout_free_buffers", [1])
    return IRModule({"main": function.with_attr("global_symbol", "main")})


def searched(mod: IRModule, seed: int, way: str) -> Any:
    """The best record of a search."""
    target = host_target()
    builder, runner = WarmBuilder(), network_runner(target, NETWORK_BYTES)
    spaces = "tvm_integration.tune.search.strategy.padded_spaces"
    try:
        with contextlib.ExitStack() as stack:
            work_dir = stack.enter_context(tempfile.TemporaryDirectory())
            if way == WAYS[0]:
                stack.enter_context(patch(spaces, lambda _: []))
            database = meta_schedule.tir_integration.tune_tir(
                mod,
                target,
                work_dir,
                TRIALS,
                num_trials_per_iter=BATCH,
                builder=builder,
                runner=runner,
                cost_model=MetaScheduleCostModel("pretrained:gbt", work_dir=work_dir),
                strategy=SketchSearch(library=False),
                seed=seed,
            )
            return best_of(database.get_all_tuning_records())[0]
    finally:
        builder.close()
        runner.close()


def compare(name: str, seed: int) -> dict[str, float]:
    """Seconds of the best programs of both ways, in turn."""
    mod, target = product(*PRODUCTS[name]), host_target()
    records = {way: searched(mod, seed, way) for way in WAYS}
    candidates = [each.as_measure_candidate() for each in records.values()]
    builder, runner = WarmBuilder(), network_runner(target, NETWORK_BYTES)
    try:
        built = builder.build([BuilderInput(each.sch.mod, target) for each in candidates])
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way, artifact, each in zip(WAYS, built, candidates, strict=True):
                (future,) = runner.run([RunnerInput(artifact.artifact_path, "cpu", each.args_info)])
                times[way].append(statistics.median(map(float, future.result().run_secs)))
    finally:
        builder.close()
        runner.close()
    return {way: statistics.median(each) for way, each in times.items()}


def main() -> None:
    """Measure what is missing and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    options = parser.parse_args()
    results = Results(ROOT / "docs/benchmarks/padding.json", fresh=options.fresh)
    for seed in SEEDS:
        for name in PRODUCTS:
            results.get(f"{name}, seed {seed}", compare, name, seed)
    print(results.header())
    print(
        "\n| product | rows x depth by columns | as TVM, µs | padded, too, µs | ratio, by seed |"
        "\n|---|---|---|---|---|"
    )
    ratios = []
    for name, (batch, rows, columns, depth) in PRODUCTS.items():
        found = [results.values[f"{name}, seed {seed}"] for seed in SEEDS]
        times = [" ".join(f"{each[way] * 1e6:.3g}" for each in found) for way in WAYS]
        each = [one[WAYS[1]] / one[WAYS[0]] for one in found]
        ratios.append(geometric_mean(each))
        size = f"{f'{batch} of ' if batch else ''}{rows}x{depth} by {columns}"
        print(
            f"| {name} | {size} | {times[0]} | {times[1]} "
            f"| **{ratios[-1]:.2f}** ({', '.join(f'{r:.2f}' for r in each)}) |"
        )
    print(f"\nGeometric mean: {math.exp(statistics.fmean(map(math.log, ratios))):.2f}")


if __name__ == "__main__":
    main()
