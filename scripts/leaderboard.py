"""Every kernel model on the shipped data sets, by network and by task, over three seeds.

Writes docs/leaderboard.md and a chart. Results resume from a file; `--fresh` measures everything
again.

Ranking is judged on randomly drawn programs of kernels that were not learned, seconds also on all
programs of them, and on those within three times the latency of their kernel's best.
"""

import argparse
import functools
import io
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results

from costmodels.evaluation import RANDOM, SplitParts, split_parts
from costmodels.files import write_atomically
from costmodels.kernel import KernelDataset, KernelPrediction
from costmodels.metrics import mape, median_ape
from costmodels.model_scores import score_prediction
from costmodels.protocol import KernelCostModel
from costmodels.registry import kernel_model_names, new_kernel_model
from tvm_integration.learn.evaluate import STOCK
from tvm_integration.learn.stock_model import StockModel

SEEDS = (0, 1, 2)
SPLITS = ("networks", "tasks")
NEAR_BEST = 3.0
PREDICTED = 2560
"""Programs of which predicting is timed, features not included."""
SCORES = ("top1", "top5", "top1_weighted", "top1_gain", "kendall_tau", "pair_accuracy")
SECONDS: tuple[str, ...] = ("supported", "median_ape", "all_median_ape", "near_median_ape")
SECONDS += ("near_mape", "coverage", "interval_width")
COSTS = ("train_s", "size_mb", "predictions_per_s")


def run(parts: SplitParts, near: "NearBest", name: str, seed: int) -> dict[str, float | None]:
    """Train a model by its name, judge it, and say what it cost."""
    if name == RANDOM:
        prediction = KernelPrediction(np.zeros(len(parts.test.kernels)))
        scores = score_prediction(prediction, parts.test, rng=np.random.default_rng(seed)).values()
        return {**scores, **dict.fromkeys((*SECONDS, *COSTS))}
    if name == STOCK:
        return judge(StockModel(), parts, near, seed)
    return judge(new_kernel_model(name, rng=np.random.default_rng(seed)), parts, near, seed)


def run_on(dataset: str, split: str, name: str, seed: int) -> dict[str, float | None]:
    """The same on a split of a data set."""
    return run(*parts_of(dataset, split), name, seed)


def judge(
    model: KernelCostModel | StockModel, parts: SplitParts, near: "NearBest", seed: int
) -> dict[str, float | None]:
    """Train a model, judge it, and say what it cost."""
    assert parts.train is not None
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    if isinstance(model, StockModel):
        model.fit(parts.train, rng=rng)
    else:
        model.fit(parts.train, rng=rng, validation=parts.validation)
    train_s = time.perf_counter() - start
    prediction = model.predict(parts.test.kernels.batch)
    scores = score_prediction(prediction, parts.test, rng=rng).values()
    some = parts.test.kernels.batch
    some = some.take(np.arange(PREDICTED) % len(some))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.predict(some)
        times.append(time.perf_counter() - start)
    size_mb = None
    if not isinstance(model, StockModel):
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.ckpt")
            size_mb = (Path(folder) / "model.ckpt").stat().st_size / 1e6
    return {
        **scores,
        **near.errors(model),
        "train_s": train_s,
        "size_mb": size_mb,
        "predictions_per_s": PREDICTED / statistics.median(times),
    }


@dataclass(frozen=True)
class NearBest:
    """All programs of the test tasks, those measured near their best among them."""

    kernels: KernelDataset

    def errors(self, model: KernelCostModel | StockModel) -> dict[str, float | None]:
        """Errors of the seconds over all programs and near the best."""
        names = ("all_median_ape", "near_median_ape", "near_mape")
        predicted = model.predict(self.kernels.batch).latency_s
        if predicted is None:
            return dict.fromkeys(names)
        latency_s = np.exp(self.kernels.log_latency)
        best = np.full(len(self.kernels.batch.tasks), np.inf)
        np.minimum.at(best, self.kernels.batch.task_index, latency_s)
        known = np.isfinite(predicted)
        near = known & (latency_s <= NEAR_BEST * best[self.kernels.batch.task_index])
        if not np.any(near):
            return dict.fromkeys(names)
        return {
            "all_median_ape": median_ape(predicted[known], latency_s[known]),
            "near_median_ape": median_ape(predicted[near], latency_s[near]),
            "near_mape": mape(predicted[near], latency_s[near]),
        }


@functools.cache
def parts_of(dataset: str, split: str) -> tuple[SplitParts, NearBest]:
    """A data set cut by a split, and all programs that ran of its test tasks."""
    from costmodels.dataset.folder import read_dataset
    from costmodels.dataset.splits import read_split
    from tvm_integration.collect.featurize import featurize

    stored = read_dataset(dataset)
    test = read_split(stored, split).test
    tested = featurize(stored).select(lambda record: record.task in test)
    ran = tested.take(np.flatnonzero(tested.measured))
    return split_parts(stored, split, features=featurize), NearBest(ran)


def shown(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean, least and most."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = statistics.fmean(known)
    if max(known) - min(known) < 0.5 * 10**-digits:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ({min(known):.{digits}f}-{max(known):.{digits}f})"


def table(results: Mapping[str, Any], datasets: Sequence[str], models: Sequence[str]) -> str:
    """The whole table as Markdown."""
    columns = (*SCORES, *SECONDS, *COSTS)
    lines = ["| data set | split | model | " + " | ".join(columns) + " |"]
    lines.append("|---" * (3 + len(columns)) + "|")
    for dataset in datasets:
        for split in SPLITS:
            for model in models:
                found = [results[f"{dataset} | {split} | {model} | {seed}"] for seed in SEEDS]
                cells = [
                    shown([each[name] for each in found], 0 if name == "predictions_per_s" else 3)
                    for name in columns
                ]
                lines.append(f"| {dataset} | {split} | {model} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sources(results: Results, datasets: Sequence[str]) -> str:
    """With which sources, and on which machines, the models of each data set were judged."""
    each = []
    for dataset in datasets:
        keys = [key for key in results.values if key.startswith(f"{dataset} ")]
        commits = ", ".join(sorted({results.commits[key] for key in keys}))
        machines = "; ".join(sorted({results.machines[key] for key in keys}))
        each.append(f"`{dataset}` {commits}, on {machines}")
    return f"Sources: {'. '.join(each)}."


def chart(
    results: Mapping[str, Any], datasets: Sequence[str], models: Sequence[str], path: Path
) -> None:
    """Draw top-1, top-5 and tau of every model, a dot for each seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    wanted = ("top1", "top5", "kendall_tau")
    rows = [(dataset, split) for dataset in datasets for split in SPLITS]
    figure, grid = pyplot.subplots(
        len(rows), 3, figsize=(10, 2.1 * len(rows)), layout="constrained", squeeze=False
    )
    for (dataset, split), line in zip(rows, grid, strict=True):
        for name, axes in zip(wanted, line, strict=True):
            for place, model in enumerate(models):
                keys = [f"{dataset} | {split} | {model} | {seed}" for seed in SEEDS]
                values = [results[key][name] for key in keys]
                axes.scatter(values, [place] * len(values), s=18, color=f"C{place}")
            axes.set_yticks(range(len(models)), models)
            axes.invert_yaxis()
            axes.grid(axis="x", alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_title(f"{dataset} by {split}: {name.replace('_', ' ')}", fontsize=9)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=130)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, held.getvalue())


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", nargs="+", default=["shipped:cpu", "shipped:h200"])
    parser.add_argument("--models", nargs="+", default=[STOCK, *kernel_model_names()])
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/leaderboard.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/leaderboard.md")
    options = parser.parse_args()
    models = list(dict.fromkeys([RANDOM, *options.models]))
    results = Results(options.out, fresh=options.fresh)
    for dataset in options.datasets:
        for split in SPLITS:
            for seed in SEEDS:
                for model in models:
                    results.get(
                        f"{dataset} | {split} | {model} | {seed}",
                        run_on,
                        dataset,
                        split,
                        model,
                        seed,
                    )
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    picture = options.page.with_suffix(".png")
    chart(results.values, options.datasets, models, picture)
    page = (
        f"# Kernel models compared\n\n{results.header()}\n\n"
        f"{(__doc__ or '').split(chr(10) * 2, 1)[1].strip()}\n\n"
        f"![top-1, top-5 and tau]({picture.name})\n\n"
        f"{table(results.values, options.datasets, models)}\n\n"
        "Mean over three seeds, in brackets least and most. `top1`, `top5`: latency of the best "
        "program of a kernel over that of the best of the k predicted fastest; `weighted`: of all "
        "kernels of a network together; `gain`: from random (0) to perfect (1). `supported`: share "
        "of programs that a model has seconds for, the others do not count in what follows. "
        "`median_ape`: of the seconds of the randomly drawn programs; `all`: of all programs; "
        f"`near`: of those within {NEAR_BEST:.0f} times the latency of their kernel's best. "
        "`coverage` and "
        "`interval_width`: of the 90 % intervals, the width over the latency. `predictions_per_s`: "
        f"without the extraction of features.\n\n{sources(results, options.datasets)}\n"
    )
    write_atomically(options.page, page.encode())
    print(f"{page}\npeak memory {peak_gib:.1f} GiB")


if __name__ == "__main__":
    main()
