"""What a few measurements on another device are worth to a model trained on one.

Models learn the training tasks of `shipped:cpu` (split by network) on the device with most of them.
Then for every other device some programs of its training tasks, a few of each, are given: to that
model, which adapts to them, and to a new one, which learns from them alone. Both are judged on the
device's test tasks, whose networks nobody has seen.

Writes docs/few_shot.md and a chart.
"""

import argparse
import io
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results
from leaderboard import SEEDS, shown

from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.rows import TaskRow
from costmodels.dataset.shipped import dataset_path
from costmodels.dataset.splits import read_split
from costmodels.evaluation import TestSet, evaluate
from costmodels.files import write_atomically
from costmodels.kernel import KernelDataset
from costmodels.protocol import Adaptable
from costmodels.registry import kernel_model_class, new_kernel_model
from tvm_integration.featurise import FeaturisedRecords, featurise

DATASET, SPLIT = "shipped:cpu", "networks"
MODELS = ("gbt", "graphsage", "halide")
RECORDS = (0, 32, 128, 512)
PER_TASK = 4
"""Programs of a task that are given."""
WAYS = ("adapted", "new")
SHOWN = ("top1", "top5", "kendall_tau", "median_ape")


@dataclass(frozen=True)
class Target:
    """A device with what is known on it.

    Parameters
    ----------
    name : str
        Processor, cores and width of its vectors.
    train, test : KernelDataset
        Of its training and its test tasks.
    """

    name: str
    train: KernelDataset
    test: KernelDataset


def name_of(task: TaskRow) -> str:
    """What tells targets apart, for people."""
    device = task.device
    return f"{device.name}, {device.cores} cores, {device.vector_bits} bits"


def targets(dataset: StoredDataset, records: FeaturisedRecords) -> list[Target]:
    """Devices of a data set, the one with most programs first."""
    split = read_split(dataset, SPLIT)
    counts = Counter(name_of(dataset.tasks[record.task]) for record in dataset.records)
    found = []
    for name, _ in counts.most_common():
        train, test = (
            records.select(
                lambda record, p=part, n=name: (
                    record.task in split.part(p)
                    and name_of(dataset.tasks[record.task]) == n
                    and (p == "train" or record.origin == "random")
                )
            )
            for part in ("train", "test")
        )
        found.append(Target(name, train, test.take(np.flatnonzero(test.measured))))
    return found


def some_of(dataset: KernelDataset, count: int, seed: int) -> KernelDataset:
    """So many kernels, a few of each of some tasks."""
    rng = np.random.default_rng(seed)
    ran = np.flatnonzero(dataset.measured)
    order = rng.permutation(ran)
    task = dataset.batch.task_index[order]
    turn = np.zeros(len(order), np.int64)
    for number in np.unique(task):  # the how-manieth of its task each is
        own = np.flatnonzero(task == number)
        turn[own] = np.arange(len(own))
    place = rng.permutation(len(dataset.batch.tasks))[task]
    by_task = np.lexsort((turn, place, turn // PER_TASK))
    return dataset.take(np.sort(order[by_task[:count]]))


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/few_shot.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/few_shot.md")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    dataset = read_dataset(dataset_path(DATASET))
    base, *others = targets(dataset, featurise(dataset))
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            for model in options.models:
                path = Path(folder) / f"{model}-{seed}.ckpt"
                for target in others:
                    for count in RECORDS:
                        for way in WAYS:
                            if way == "new" and count == 0:
                                continue
                            key = f"{target.name} | {count} | {model} | {way} | {seed}"
                            results.get(
                                key,
                                lambda p=path, m=model, t=target, c=count, w=way, s=seed: run(
                                    base, t, m, w, count=c, seed=s, path=p
                                ),
                            )
    picture = options.page.with_suffix(".png")
    names = [target.name for target in others]
    chart(results.values, names, options.models, picture)
    about = (__doc__ or "").strip()
    page = (
        f"# {about.splitlines()[0].rstrip('.')}\n\n{results.header()}\n\n"
        f"{about.split(chr(10) * 2)[1]} The first device is {base.name}; of each task "
        f"{PER_TASK} programs are given.\n\n![error and order against programs]({picture.name})\n\n"
        f"{table(results.values, names, options.models)}\n\n"
        "Mean over three seeds, in brackets least and most. Columns as in "
        "[leaderboard.md](leaderboard.md).\n"
    )
    write_atomically(options.page, page.encode())
    print(page)


def run(
    base: Target, target: Target, name: str, way: str, *, count: int, seed: int, path: Path
) -> dict[str, float | None]:
    """Adapt the model of a file, which is made when it is missing, or train a new one; judge it."""
    given = some_of(target.train, count, seed)
    rng = np.random.default_rng(seed)
    if way == "new":
        model = new_kernel_model(name, rng=rng).fit(given, rng=rng)
    else:
        if not path.exists():
            new_kernel_model(name, rng=rng).fit(base.train, rng=rng).save(path)
        model = kernel_model_class(name).load(path)
        if count:
            assert isinstance(model, Adaptable)
            model.adapt(given, rng=np.random.default_rng(seed))
    prediction = model.predict(target.test.batch)
    return evaluate(prediction, TestSet(target.test, {}), rng=rng).values()


def table(results: Mapping[str, Any], names: Sequence[str], models: Sequence[str]) -> str:
    """The whole table as Markdown."""
    lines = ["| device | programs | model | way | " + " | ".join(SHOWN) + " |"]
    lines.append("|---" * (4 + len(SHOWN)) + "|")
    for name in names:
        for count in RECORDS:
            for model in models:
                for way in WAYS[: 1 if count == 0 else None]:
                    found = [results[f"{name} | {count} | {model} | {way} | {s}"] for s in SEEDS]
                    cells = " | ".join(shown([each[column] for each in found]) for column in SHOWN)
                    lines.append(f"| {name} | {count} | {model} | {way} | {cells} |")
    return "\n".join(lines)


def chart(
    results: Mapping[str, Any], names: Sequence[str], models: Sequence[str], path: Path
) -> None:
    """Draw error and order of every model against the programs it was given."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    wanted = {"median_ape": "median error of the seconds", "kendall_tau": "Kendall's tau"}
    figure, grid = pyplot.subplots(
        len(wanted),
        len(names),
        figsize=(4 * len(names), 6),
        layout="constrained",
        squeeze=False,
        sharey="row",
    )
    for line, (score, title) in zip(grid, wanted.items(), strict=True):
        for axes, name in zip(line, names, strict=True):
            for number, model in enumerate(models):
                for way, style in zip(WAYS, ("-o", ":s"), strict=True):
                    counts = [count for count in RECORDS if count or way == "adapted"]
                    means = [
                        np.mean(
                            [results[f"{name} | {c} | {model} | {way} | {s}"][score] for s in SEEDS]
                        )
                        for c in counts
                    ]
                    places = [RECORDS.index(count) for count in counts]
                    label = f"{model}, {way}"
                    axes.plot(places, means, style, color=f"C{number}", label=label, markersize=4)
            axes.set_xticks(range(len(RECORDS)), map(str, RECORDS))
            axes.set_title(name, fontsize=9)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(title)
        if score == "median_ape":
            line[0].set_yscale("log")
    for axes in grid[-1]:
        axes.set_xlabel("programs measured on the device")
    grid[0][0].legend(fontsize=7, frameon=False)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, held.getvalue())


if __name__ == "__main__":
    main()
