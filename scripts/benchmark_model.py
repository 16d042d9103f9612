"""Time and memory of `predict` and `update`: our trees against TVM's XGBModel.

Both get the same candidates of the conv2d task, scheduled at random, with the times that they were
measured to take (made up from their features, so that no kernel runs here).
"""

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmark_common import ROOT, TASKS, Results, run_child
from benchmark_workers import host_cpu

SAMPLES = (500, 2000, 10_000)
PREDICTED = 512
REPEATS = 5
TASK = "batch matmul 12x128x64"


def candidates_of(count: int) -> tuple[object, list[object]]:
    """Random schedules of the task, and their context."""
    import tvm
    from tvm.s_tir import meta_schedule as ms

    target = tvm.target.Target({"kind": "llvm", "mcpu": host_cpu(tvm), "num-cores": 2})
    context = ms.TuneContext(
        mod=TASKS[TASK](),
        target=target,
        space_generator="post-order-apply",
        search_strategy=ms.search_strategy.ReplayTrace(),
        task_name=TASK,
        rand_state=1,
    ).clone()
    context.pre_tuning(
        count,
        count,
        context.generate_design_space(),
        ms.database.MemoryDatabase(),
        ms.cost_model.RandomModel(),
    )
    return context, list(context.generate_measure_candidates())


def made_up_times(context: object, candidates: list[object]) -> list[float]:
    """Seconds that depend on the features, with noise."""
    from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature

    rows = [r.numpy().max(axis=0) for r in PerStoreFeature().extract_from(context, candidates)]
    values = np.stack(rows)
    rng = np.random.default_rng(0)
    spread = values.std(axis=0) > 0
    scaled = (values[:, spread] - values[:, spread].mean(axis=0)) / values[:, spread].std(axis=0)
    log_s = scaled @ rng.normal(size=scaled.shape[1]) / np.sqrt(scaled.shape[1])
    return np.exp(log_s + rng.normal(scale=0.05, size=len(log_s)) - 7).tolist()


def model_of(who: str) -> object:
    """A new cost model."""
    if who == "stock":
        from tvm.s_tir.meta_schedule.cost_model import XGBModel

        return XGBModel()
    from tvm_integration import MetaScheduleCostModel

    return MetaScheduleCostModel("gbt")


def median_s(call: Callable[[], object]) -> float:
    """Median seconds over the repeats."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(who: str, samples: int) -> dict[str, float]:
    """Retraining after the last 64 of `samples`, and predicting 512."""
    from tvm.s_tir.meta_schedule.runner import RunnerResult

    context, candidates = candidates_of(2048)
    times = made_up_times(context, candidates)
    results = [RunnerResult([t], None) for t in times]
    start_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = model_of(who)
    order = np.random.default_rng(1).integers(0, len(candidates), samples)

    def learn(part: np.ndarray) -> None:
        model.update(context, [candidates[i] for i in part], [results[i] for i in part])

    learn(order[:-64])
    update_s = []
    for _ in range(REPEATS):
        if who == "stock":
            model.last_train_size = 0  # the update that retrains, which is the one that takes long
        else:
            model.kernel_model._seen_at_refit = 0
        start = time.perf_counter()
        learn(order[-64:])
        update_s.append(time.perf_counter() - start)
    predict_s = median_s(lambda: model.predict(context, candidates[:PREDICTED]))
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "update_s": statistics.median(update_s),
        "predict_s": predict_s,
        "peak_mib": (peak_kib - start_kib) / 1024,
    }


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/model.json")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], int(options.child[1]))))
        return
    results = Results(options.out, fresh=options.fresh)
    for samples in SAMPLES:
        for who in ("ours", "stock"):
            call = ("--child", who, str(samples))
            results.get(f"{samples} | {who}", lambda call=call: run_child(*call))
    print(f"\n{results.header()}\n")
    print(
        "| samples | update, s: ours | XGBModel | ratio (at most 0.2) | predict 512, s: ours "
        "| XGBModel | ratio (at most 1) | added memory, MiB: ours | XGBModel |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for samples in SAMPLES:
        ours, stock = (results.values[f"{samples} | {who}"] for who in ("ours", "stock"))
        cells = [str(samples)]
        for name in ("update_s", "predict_s"):
            ratio = ours[name] / stock[name]
            cells += [f"{ours[name]:.3g}", f"{stock[name]:.3g}", f"{ratio:.2f}"]
        cells += [f"{ours['peak_mib']:.0f}", f"{stock['peak_mib']:.0f}"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
