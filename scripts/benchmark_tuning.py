"""Latency of whole networks against wall time of tuning, ours and stock TVM's.

Both tune the same fused module, but for the vector math of ours, each in a new process whose start
counts, both on as many threads as the target has cores. Ours is `costmodels tune`, but that its
trees begin with nothing, as stock's do, and there are no known schedules: those that ship have
learned kernels of these networks. `--as-shipped` measures it with both. Stock is `tune_relax` with
TVM's builder, runner and XGBModel. As in `benchmark_workers.py` stock's builders need not import
torch, and have five minutes a candidate. A kernel without a faster program counts as it is without
a schedule. Stock has three times the minutes by default: it takes in the results of a task when it
comes to it again, for the first time after one batch of each. At the end the networks of all runs
are built and measured in turn. The chart has sums of kernels, which stock measures in a loop, with
all data in the nearest cache: each curve is scaled so that it ends at what its network takes.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results, run_child
from benchmark_winners import geometric_mean

START = time.perf_counter()
NETWORKS = ("zoo:vit_tiny", "zoo:resnet18", "zoo:mobilenet_v2", "zoo:bert_tiny")
WHO = ("ours", "stock")
WORK = ROOT / "work/benchmarks/tuning"
ROUNDS = 7
MANY = 100_000
"""Trials: more than the minutes allow."""
LABELS = {"ours": "costmodels tune", "stock": "TVM's tune_relax"}


def work_dir(network: str, who: str, seed: int) -> Path:
    """Where the records of a run are kept until all are measured in turn."""
    return WORK / f"{network.replace(':', '-')}-{who}-{seed}"


def tune_ours(
    network: str, seed: int, minutes: float, folder: Path, *, as_shipped: bool
) -> dict[str, Any]:
    """Tune in this process; the sum of the kernels after each batch, against seconds."""
    from tvm_integration import TuneOptions, tune_network
    from tvm_integration.tune.network_timing import known_untuned

    curve: list[tuple[float, float]] = []

    def on_state(state: Any) -> None:
        totals = [kernel.total_s for kernel in state.kernels]
        if totals and None not in totals:
            curve.append((time.perf_counter() - START, sum(totals)))

    left = minutes - (time.perf_counter() - START) / 60
    options = TuneOptions(
        folder,
        trials=MANY,
        minutes=left,
        cost_model=None if as_shipped else "gbt",
        seed=seed,
        library=as_shipped,
    )
    result = tune_network(network, "host", options, on_state)
    assert result.outputs_match, result.outputs_note
    return {"curve": curve, "trials": result.trials, "untuned": known_untuned(folder)}


def tune_stock(network: str, seed: int, minutes: float, folder: Path, untuned: Any) -> None:
    """Tune until the minutes are over, print the same as ours, and end this process."""
    from tvm.s_tir import meta_schedule as ms
    from tvm.s_tir.meta_schedule.builder import LocalBuilder
    from tvm.s_tir.meta_schedule.measure_callback import MeasureCallback, PyMeasureCallback

    from tvm_integration.compat import derived_object
    from tvm_integration.compile.fusion import fuse
    from tvm_integration.frontends.load import load_network
    from tvm_integration.identity import task_key
    from tvm_integration.measure.builder import WarmBuilder
    from tvm_integration.measure.runner import WarmRunner
    from tvm_integration.targets import host_target
    from tvm_integration.threads import thread_count
    from tvm_integration.tune.network_timing import UNTUNED, untuned_latencies

    target = host_target()
    fused = fuse(load_network(network, seed=seed).module, target)
    weights = {task.name: task.weight for task in fused.tasks}
    before = time.perf_counter()  # what is only for the chart is not on the clock
    folder.mkdir(parents=True, exist_ok=True)
    keys = {task_key(task.mod, target) for task in fused.tasks}
    (folder / UNTUNED).write_text(json.dumps({k: s for k, s in untuned.items() if k in keys}))
    runner = WarmRunner(threads=thread_count(target))
    known_s = untuned_latencies(fused, folder, WarmBuilder(), runner)
    begin = START + time.perf_counter() - before
    best = {task.name: s or math.inf for task, s in zip(fused.tasks, known_s, strict=True)}
    names = [
        str(task.task_name)
        for task in ms.relax_integration.extract_tasks(fused.module, target, params={})
    ]
    curve = [(time.perf_counter() - begin, sum(weights[name] * best[name] for name in best))]
    trials = 0

    @derived_object
    class Watch(PyMeasureCallback):
        """Keep the way, and end with the minutes."""

        def apply(
            self, task_scheduler: Any, task_id: int, candidates: Any, built: Any, results: Any
        ) -> None:
            del task_scheduler, candidates, built
            nonlocal trials
            name = names[task_id]
            trials += len(results)
            for result in results:
                if result.run_secs:
                    best[name] = min(best[name], statistics.median(map(float, result.run_secs)))
            elapsed = time.perf_counter() - begin
            curve.append((elapsed, sum(weights[name] * best[name] for name in best)))
            if elapsed > 60 * minutes:
                print(json.dumps({"curve": curve, "trials": trials}), flush=True)
                os._exit(0)

    with tempfile.TemporaryDirectory() as hidden:
        (Path(hidden) / "torch.py").write_text("raise ImportError('hidden')\n")
        os.environ["PYTHONPATH"] = hidden
        ms.relax_integration.tune_relax(
            fused.module,
            {},
            target,
            str(folder),
            max_trials_global=MANY,
            builder=LocalBuilder(timeout_sec=300),
            measure_callbacks=[*MeasureCallback.create("default"), Watch()],
            seed=seed,
        )


def measure_in_turn(network: str, seeds: int) -> dict[str, list[float]]:
    """Seconds of the networks that all runs gave, and of torch, medians of rounds in turn."""
    from tvm_integration.compat import meta_schedule
    from tvm_integration.compile.build import build
    from tvm_integration.compile.execution import measure_s
    from tvm_integration.compile.fusion import fuse
    from tvm_integration.compile.vector_math import with_vector_math
    from tvm_integration.frontends.load import load_network
    from tvm_integration.identity import task_key
    from tvm_integration.records.database import open_database
    from tvm_integration.targets import host_target
    from tvm_integration.threads import KernelThread, thread_count
    from tvm_integration.tune.network_timing import fastest_record, known_untuned

    target = host_target()
    loaded = load_network(network)
    fused = fuse(loaded.module, target)
    forms = {"stock": fused, "ours": with_vector_math(fused)}
    networks = {"untuned": build(fused)}
    for who, seed in itertools.product(WHO, range(1, seeds + 1)):
        database = open_database(work_dir(network, who, seed), target, read_only=True)
        best = meta_schedule.database.MemoryDatabase()
        untuned = known_untuned(work_dir(network, who, seed))
        for task in forms[who].tasks:
            record = fastest_record(database, task.mod)
            if record is None:
                continue
            seconds = statistics.median(map(float, record.run_secs))
            if seconds < (untuned[task_key(task.mod, target)] or np.inf):
                workload = best.commit_workload(task.mod)
                best.commit_tuning_record(
                    meta_schedule.database.TuningRecord(
                        record.trace, workload, record.run_secs, record.target, record.args_info
                    )
                )
        networks[f"{who} | {seed}"] = build(forms[who], best)
    threads = thread_count(target)
    loaded.reference.use_threads(threads)
    times: dict[str, list[float]] = {}
    with KernelThread(threads) as kernels:
        for _ in range(ROUNDS):
            for name, built in networks.items():
                time.sleep(0.1)
                found = kernels.call(measure_s, built, loaded.inputs, repeat=1)
                times.setdefault(name, []).extend(found)
            time.sleep(0.1)
            times.setdefault("torch", []).extend(loaded.reference.measure_s(repeat=1))
    loaded.reference.close()
    return {name: [statistics.median(each), *each] for name, each in times.items()}


def draw(results: Results, networks: Sequence[str], seeds: int, path: Path) -> None:
    """Chart the network's latency against wall time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        1, len(networks), figsize=(1 + 4 * len(networks), 3.4), layout="constrained", squeeze=False
    )
    colors = {"ours": "#2f6690", "stock": "#d1495b"}
    for axes, network in zip(grid[0], networks, strict=True):
        in_turn = results.values[f"{network} | in turn"]
        for who, seed in itertools.product(WHO, range(1, seeds + 1)):
            points = np.array(results.values[f"{network} | {seed} | {who}"]["curve"])
            points[:, 1] *= in_turn[f"{who} | {seed}"][0] / points[-1, 1]
            axes.step(
                points[:, 0] / 60,
                points[:, 1] * 1e3,
                where="post",
                color=colors[who],
                label=LABELS[who] if seed == 1 else None,
            )
        torch_ms = in_turn["torch"][0] * 1e3
        axes.axhline(torch_ms, color="#9a9a9a", linewidth=0.8, linestyle="--", label="torch")
        axes.set_title(network, fontsize=10)
        axes.set_xlabel("wall time, minutes")
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("latency, ms")
    grid[0, 0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


def print_table(results: Results, networks: Sequence[str], seeds: int) -> None:
    """Latencies at the end, measured in turn, and what became of the time."""
    print(f"\n{results.header()}\n")
    head = (
        "network",
        "untuned, ms",
        "stock, ms",
        "ours, ms",
        "stock / ours",
        "trials",
        "torch, ms",
    )
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for network in networks:
        found = results.values[f"{network} | in turn"]
        seconds = {
            who: [found[f"{who} | {seed}"][0] for seed in range(1, seeds + 1)] for who in WHO
        }
        ratios = [a / b for a, b in zip(seconds["stock"], seconds["ours"], strict=True)]
        trials = {
            who: [
                results.values[f"{network} | {seed} | {who}"]["trials"]
                for seed in range(1, seeds + 1)
            ]
            for who in WHO
        }
        cells = [network, f"{found['untuned'][0] * 1e3:.4g}"]
        for who in reversed(WHO):
            cells.append(", ".join(f"{each * 1e3:.4g}" for each in seconds[who]))
        ratio_text = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        cells.append(f"**{geometric_mean(ratios):.2f}** ({ratio_text})")
        mean = {who: round(statistics.fmean(each)) for who, each in trials.items()}
        cells.append(f"{mean['stock']} and {mean['ours']}")
        cells.append(f"{found['torch'][0] * 1e3:.4g}")
        print("| " + " | ".join(cells) + " |")


def main() -> None:
    """Measure what is missing, then print the table and draw the chart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--stock-minutes", type=float, default=15.0)
    parser.add_argument("--as-shipped", action="store_true", help="ours begins with all that ships")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/tuning.json")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--untuned", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--in-turn", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        who, network, seed, minutes = options.child
        folder = work_dir(network, who, int(seed))
        if who == "stock":
            untuned = json.loads(options.untuned.read_text())
            tune_stock(network, int(seed), float(minutes), folder, untuned)
            sys.exit("stock must not end before the minutes are over")
        found = tune_ours(network, int(seed), float(minutes), folder, as_shipped=options.as_shipped)
        print(json.dumps(found))
        return
    if options.in_turn:
        print(json.dumps(measure_in_turn(options.in_turn, options.seeds)))
        return
    from tvm_integration.targets import host_target
    from tvm_integration.threads import thread_count, thread_environment

    os.environ.update(thread_environment(thread_count(host_target())))
    results = Results(options.out, fresh=options.fresh)
    for seed, network in itertools.product(range(1, options.seeds + 1), options.networks):
        for who in WHO:
            minutes = options.stock_minutes if who == "stock" else options.minutes
            call = ["--child", who, network, str(seed), str(minutes)]
            call += ["--as-shipped"] if options.as_shipped else []
            folder = work_dir(network, who, seed)
            folder.mkdir(parents=True, exist_ok=True)
            if who == "stock":
                kept = folder / "untuned.json"
                untuned = results.values[f"{network} | {seed} | ours"]["untuned"]
                kept.write_text(json.dumps(untuned))
                call += ["--untuned", str(kept)]
            results.get(f"{network} | {seed} | {who}", run_child, *call)
    for network in options.networks:
        in_turn = ("--in-turn", network, "--seeds", str(options.seeds))
        results.get(f"{network} | in turn", run_child, *in_turn)
    print_table(results, options.networks, options.seeds)
    draw(results, options.networks, options.seeds, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
