"""Time and memory of `predict` and of learning: our models against TVM's XGBModel.

Programs of the five tasks are scheduled at random and measured once. Larger sample sizes draw from
them again, with one percent of noise on the features so that no two samples are equal. Learning is
timed without feature extraction, which both share: TVM's XGBModel retrains on all samples, our
trees take in a batch of 64 more; several updates in a row are averaged, so that refits count.
Predicting is timed with feature extraction, all models in turn: new trees, and the shipped models.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results, run_child
from benchmark_tasks import TASKS
from benchmark_workers import host_cpu

SAMPLES = (500, 2000, 10_000)
PREDICTED = 512
REPEATS = 5
BATCH = 64
UPDATES = 12
PER_TASK = 128
STOCK = "XGBModel"
MODELS = ("gbt", "pretrained:gbt", "pretrained:graphsage", "pretrained:halide")
SITUATIONS = {"new": "512 new programs", "search": "a call in the search"}


def candidates_of(task: str, count: int, seed: int = 1) -> tuple[Any, list[Any]]:
    """Random schedules of a task, and their context."""
    import tvm
    from tvm.s_tir import meta_schedule as ms

    target = tvm.target.Target({"kind": "llvm", "mcpu": host_cpu(tvm), "num-cores": 2})
    context = ms.TuneContext(
        mod=TASKS[task](),
        target=target,
        space_generator="post-order-apply",
        search_strategy=ms.search_strategy.ReplayTrace(),
        task_name=task,
        rand_state=seed,
    ).clone()
    context.pre_tuning(
        count,
        count,
        context.generate_design_space(),
        ms.database.MemoryDatabase(),
        ms.cost_model.RandomModel(),
    )
    return context, list(context.generate_measure_candidates())


def collect(path: Path) -> dict[str, int]:
    """Measure random programs of every task; write TVM's rows, ours, and times."""
    from tvm.s_tir.meta_schedule.builder import BuilderInput
    from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature
    from tvm.s_tir.meta_schedule.runner import RunnerInput

    from tvm_integration import WarmBuilder, WarmRunner
    from tvm_integration.tir.features import FeatureExtractor

    builder, runner, extractor = WarmBuilder(), WarmRunner(), FeatureExtractor()
    rows, own, counts, times, tasks = [], [], [], [], []
    for number, task in enumerate(TASKS):
        context, candidates = candidates_of(task, PER_TASK)
        raw = [r.numpy() for r in PerStoreFeature().extract_from(context, candidates)]
        programs = extractor.programs(context, candidates)
        built = builder.build([BuilderInput(c.sch.mod, context.target) for c in candidates])
        kept = [i for i, b in enumerate(built) if b.error_msg is None]
        inputs = [RunnerInput(built[i].artifact_path, "cpu", candidates[i].args_info) for i in kept]
        for i, future in zip(kept, runner.run(inputs), strict=True):
            result = future.result()
            if result.run_secs:
                rows.append(raw[i])
                own.append(programs[i].rows)
                counts.append(len(raw[i]))
                times.append(statistics.median(float(t) for t in result.run_secs))
                tasks.append(number)
    np.savez_compressed(
        path,
        counts=counts,
        times=times,
        tasks=tasks,
        stock=np.concatenate(rows),
        ours=np.concatenate(own),
    )
    return {"measured": len(times)}


def sample(path: Path, who: str, count: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Rows as TVM's model or ours has them, times and task numbers of so many samples."""
    with np.load(path) as data:
        each = np.split(data[who], np.cumsum(data["counts"])[:-1])
        times, tasks = data["times"], data["tasks"]
    rng = np.random.default_rng(0)
    chosen = np.concatenate([rng.permutation(len(each)) for _ in range(count // len(each) + 1)])
    chosen = chosen[:count]
    rows = []
    for position, index in enumerate(chosen):
        noise = 1.0 if position < len(each) else 1.0 + 0.01 * rng.normal(size=each[index].shape)
        rows.append(each[index] * noise)
    return rows, times[chosen], tasks[chosen]


def learn_stock(rows: list[np.ndarray], times: np.ndarray, tasks: np.ndarray) -> dict[str, float]:
    """Retrain TVM's model on all samples, as it does."""
    from tvm.s_tir.meta_schedule.cost_model import XGBModel

    best = np.array([times[tasks == task].min() for task in tasks])
    labels = (best / times).astype("float32")
    inputs = [r.astype("float32") for r in rows]
    start_mib = peak_mib()
    seconds = []
    for _ in range(REPEATS):
        model = XGBModel()
        start = time.perf_counter()
        model._train(inputs, labels)
        seconds.append(time.perf_counter() - start)
    learned = statistics.median(seconds)
    return {"learn_s": learned, "most_s": max(seconds), "added_mib": peak_mib() - start_mib}


def learn_ours(rows: list[np.ndarray], times: np.ndarray, tasks: np.ndarray) -> dict[str, float]:
    """Learn all but the last batches, then these one by one."""
    from costmodels.device import detect_host
    from costmodels.features.schema import PER_STORE
    from costmodels.kernel import KernelBatch, KernelDataset, Measured, Task
    from costmodels.kernel_models.gbt.model import GradientBoostedTrees

    offsets = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    known = tuple(Task(name, detect_host()) for name in TASKS)
    joined = np.concatenate(rows).astype(np.float32)
    batch = KernelBatch(PER_STORE, joined, offsets, known, tasks)
    dataset = KernelDataset(batch, tuple(Measured((float(t),)) for t in times))
    start_mib = peak_mib()
    model = GradientBoostedTrees()
    seconds = []
    for start in range(0, len(dataset), BATCH):
        part = dataset.take(np.arange(start, min(start + BATCH, len(dataset))))
        begin = time.perf_counter()
        model.update(part.batch, part.measurements)
        seconds.append(time.perf_counter() - begin)
    last = seconds[-UPDATES:]
    return {
        "learn_s": statistics.fmean(last),
        "most_s": max(last),
        "added_mib": peak_mib() - start_mib,
    }


def peak_mib() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def predict_all(task: str) -> dict[str, dict[str, dict[str, float]]]:
    """Time the scoring of 512 programs, features included, with all models in turn.

    Once as new programs; once over the calls of one round of the search, which asks again for
    some, and per call. The models that come untrained have learned 128 programs.
    """
    from tvm.s_tir.meta_schedule.cost_model import XGBModel
    from tvm.s_tir.meta_schedule.runner import RunnerResult

    from tvm_integration import MetaScheduleCostModel

    context, candidates = candidates_of(task, PREDICTED, seed=2)
    times = np.random.default_rng(0).uniform(1e-4, 1e-2, 128)
    results = [RunnerResult([float(t)], None) for t in times]
    ours, stock = {name: MetaScheduleCostModel(name) for name in MODELS}, XGBModel()
    for model in (ours["gbt"], stock):
        model.update(context, candidates[:128], results)
    measured: dict[str, dict[str, dict[str, float]]] = {}
    calls_in = {"new": [candidates], "search": search_calls(task, ours["gbt"])}
    for situation, calls in calls_in.items():
        seconds: dict[str, list[float]] = {name: [] for name in (STOCK, *MODELS)}
        for _ in range(REPEATS + 1):
            fresh = {name: MetaScheduleCostModel(m.kernel_model) for name, m in ours.items()}
            for name, model in {STOCK: stock, **fresh}.items():  # ours have scored nothing before
                start = time.perf_counter()
                for call in calls:
                    model.predict(context, call)
                seconds[name].append((time.perf_counter() - start) / len(calls))
        measured[situation] = {
            name: _summary(values[1:], seconds[STOCK][1:]) for name, values in seconds.items()
        }
    return measured


def _summary(seconds: list[float], stock_s: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(seconds, stock_s, strict=True)]
    return {
        "seconds": statistics.median(seconds),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "most": max(ratios),
    }


def search_calls(task: str, model: Any) -> list[list[Any]]:
    """Candidates of each call to a cost model in one round of TVM's search."""
    import tvm
    from tvm.ir.utils import derived_object
    from tvm.s_tir import meta_schedule as ms

    calls = []

    @derived_object
    class Recorder(ms.cost_model.PyCostModel):
        def predict(self, context: Any, candidates: list[Any]) -> Any:
            calls.append(list(candidates))
            return model.predict(context, candidates)

    target = tvm.target.Target({"kind": "llvm", "mcpu": host_cpu(tvm), "num-cores": 2})
    context = ms.TuneContext(
        TASKS[task](),
        target=target,
        space_generator="post-order-apply",
        search_strategy="evolutionary",
        rand_state=3,
    )
    context.search_strategy.pre_tuning(
        64, 16, context.generate_design_space(), ms.database.MemoryDatabase(), Recorder()
    )
    context.generate_measure_candidates()
    context.search_strategy.post_tuning()
    return calls


def main() -> None:
    """Measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/model.json")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    programs = options.out.with_suffix(".npz")
    if options.child:
        print(json.dumps(_child(programs, *options.child)))
        return
    results = Results(options.out, fresh=options.fresh)
    out = ("--out", str(options.out))
    results.get("programs", lambda: run_child(*out, "--child", "collect", "-", "-"))
    for who in ("ours", "stock"):
        for samples in SAMPLES:
            call = (*out, "--child", "learn", who, str(samples))
            results.get(f"learn | {samples} | {who}", run_child, *call)
    for task in TASKS:
        call = (*out, "--child", "predict", "-", task)
        results.get(f"predict | {task}", run_child, *call)
    print_tables(results)


def _child(programs: Path, what: str, who: str, size: str) -> dict[str, Any]:
    if what == "collect":
        programs.parent.mkdir(parents=True, exist_ok=True)
        return collect(programs)
    if what == "predict":
        return predict_all(size)
    learn = learn_ours if who == "ours" else learn_stock
    return learn(*sample(programs, who, int(size)))


def print_tables(results: Results) -> None:
    """Learning by sample size, predicting by task."""
    print(f"\n{results.header()}\n")
    print(
        "| samples | ours: update of 64, s (longest) | XGBModel: retraining, s | ratio "
        "| at most | added memory, MiB: ours | XGBModel |"
    )
    print("|---|---|---|---|---|---|---|")
    for samples in SAMPLES:
        ours, stock = (results.values[f"learn | {samples} | {who}"] for who in ("ours", "stock"))
        print(
            f"| {samples} | {ours['learn_s']:.3f} ({ours['most_s']:.3f}) | {stock['learn_s']:.2f} "
            f"| {ours['learn_s'] / stock['learn_s']:.2f} | 0.2 "
            f"| {ours['added_mib']:.0f} | {stock['added_mib']:.0f} |"
        )
    print(f"\n| programs | task | {STOCK}, s | " + " | ".join(MODELS) + " |")
    print("|---" * (3 + len(MODELS)) + "|")
    for situation, meaning in SITUATIONS.items():
        for task in TASKS:
            found = results.values[f"predict | {task}"][situation]
            cells = " | ".join(
                "{ratio:.2f} ({least:.2f}-{most:.2f})".format(**found[name]) for name in MODELS
            )
            print(f"| {meaning} | {task} | {found[STOCK]['seconds']:.2f} | {cells} |")
    print("\nRatios to XGBModel; at most 1 for trees, 1.3 for the others.")


if __name__ == "__main__":
    main()
