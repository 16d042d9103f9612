"""How good models are on a processor that they never saw, and what a few measurements there change.

All programs of one processor are left out of training, whatever the target. The ensemble learns the
training tasks (split `networks`) of all others: kernels of the test networks it has seen nowhere
("new networks"), or on the other processors ("known networks"). Then it is given some programs of
training tasks from the processor left out, a few of each, and adapts to them, or a new model learns
from these alone. All are judged on the processor's test tasks. The programs of AMD's family 25
model 1 (Zen 3) are of one core, measured from November 21 to 27, 2026; the others are of two
threads.

Writes docs/few_shot.md and a chart.
"""

import argparse
import functools
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results
from leaderboard import SEEDS, shown

from costmodels.dataset.featurized import FeaturizedRecords
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.kernel_rows import RecordRow
from costmodels.dataset.splits import Split, read_split
from costmodels.files import write_atomically
from costmodels.kernel import KernelDataset, concatenate
from costmodels.kernel_models.ensemble import MEMBERS, Ensemble
from costmodels.model_scores import TestSet, score_prediction
from costmodels.protocol import Adaptable, KernelCostModel
from costmodels.registry import kernel_model_class, new_kernel_model
from tvm_integration.collect.featurize import featurize

JUDGED = ("shipped:cpu", "shipped:cpu_one_core")
"""Data sets with a split."""
SPLIT = "networks"
ALSO_LEARNED = ("shipped:networks",)
MODELS = ("ensemble", *MEMBERS)
RECORDS = (0, 32, 128, 512)
PER_TASK = 4
"""Programs of a task that are given."""
WAYS = ("new networks", "known networks", "from these alone")
SHOWN = ("top1", "top5", "kendall_tau", "median_ape", "coverage")
PARTS = ("--seeds", "--processors")
"""Options that choose a part of what the page shows."""
MIN_TEST = 400
"""Test programs of a target without which it is not judged."""


@dataclass(frozen=True)
class Target:
    """A processor with what is known on it.

    Parameters
    ----------
    processor : str
        Its name.
    name : str
        With cores and width of its vectors.
    train, test : KernelDataset
        Of its training and its test tasks.
    """

    processor: str
    name: str
    train: KernelDataset
    test: KernelDataset


@functools.cache
def data(name: str) -> tuple[StoredDataset, FeaturizedRecords]:
    """A data set and its features."""
    stored = read_dataset(name)
    return stored, featurize(stored)


def targets() -> list[Target]:
    """Of each processor the target with most programs, those with most first."""
    found: dict[str, tuple[int, Target]] = {}
    for source in JUDGED:
        stored, records = data(source)
        split = read_split(stored, SPLIT)

        def name_of(record: RecordRow, tasks: Any = stored.tasks) -> str:
            device = tasks[record.task].device
            cores = "1 core" if device.cores == 1 else f"{device.cores} cores"
            return f"{device.name}, {cores}, {device.vector_bits} bits"

        for name, count in Counter(map(name_of, stored.records)).most_common():
            processor = name.rpartition(", ")[0].rpartition(", ")[0]
            if count <= found.get(processor, (0,))[0]:
                continue
            train, test = (
                records.select(functools.partial(_is_in, split, part, name_of, name))
                for part in ("train", "test")
            )
            test = test.take(np.flatnonzero(test.measured))
            if len(test) >= MIN_TEST:
                found[processor] = count, Target(processor, name, train, test)
    return [target for _, target in sorted(found.values(), key=lambda each: -each[0])]


def _is_in(
    split: Split, part: str, name_of: Callable[[RecordRow], str], name: str, record: RecordRow
) -> bool:
    """Whether a record of a processor is in a part of a split; drawn at random if it judges."""
    is_drawn = part == "train" or record.origin == "random"
    return record.task in split.part(part) and name_of(record) == name and is_drawn


def others(processor: str, *, known: bool) -> KernelDataset:
    """Programs of all other processors; those of the test and validation networks, or not."""
    held_out: set[str] = set()
    for source in JUDGED:
        stored, _ = data(source)
        split = read_split(stored, SPLIT)
        parts = split.part("test") | split.part("validation")
        held_out |= {stored.tasks[key].workload_key for key in parts}
    chosen = []
    for source in (*JUDGED, *ALSO_LEARNED):
        stored, records = data(source)

        def is_learned(record: RecordRow, tasks: Any = stored.tasks) -> bool:
            task = tasks[record.task]
            return task.device.name != processor and (known or task.workload_key not in held_out)

        chosen.append(records.select(is_learned))
    measurements = tuple(each for part in chosen for each in part.measurements)
    return KernelDataset(concatenate([part.batch for part in chosen]), measurements)


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


def trained(processor: str, way: str, seed: int, folder: Path) -> Ensemble:
    """The ensemble that learned all other processors; its checkpoint is kept in a folder."""
    path = folder / f"{processor}-{way}-{seed}.ckpt".replace(" ", "_")
    if not path.exists():
        rng = np.random.default_rng(seed)
        dataset = others(processor, known=way == "known networks")
        Ensemble(rng=rng).fit(dataset, rng=rng).save(path)
    return Ensemble.load(path)


def copy_of(name: str, ensemble: Ensemble, folder: Path) -> KernelCostModel:
    """The ensemble or one of its members, to adapt."""
    model = ensemble if name == "ensemble" else ensemble.members[MEMBERS.index(name)]
    path = folder / "copied.ckpt"
    model.save(path)
    return kernel_model_class(name).load(path)


def run(
    target: Target, name: str, way: str, *, count: int, seed: int, folder: Path
) -> dict[str, float | None]:
    """Adapt a model that learned other processors, or train a new one; judge it."""
    given = some_of(target.train, count, seed)
    rng = np.random.default_rng(seed)
    if way == "from these alone":
        model = new_kernel_model(name, rng=rng).fit(given, rng=rng)
    else:
        model = copy_of(name, trained(target.processor, way, seed, folder), folder)
        if count:
            assert isinstance(model, Adaptable)
            model.adapt(given, rng=np.random.default_rng(seed))
    prediction = model.predict(target.test.batch)
    return score_prediction(prediction, TestSet(target.test, {}), rng=rng).values()


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--processors", nargs="+", metavar="NAME", help="only these are left out")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/few_shot.json")
    parser.add_argument("--trained", type=Path, default=ROOT / "work/left_out_processors")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/few_shot.md")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    folder = options.trained
    folder.mkdir(parents=True, exist_ok=True)
    known = targets()
    for seed in options.seeds:
        for target in known:
            if options.processors and target.processor not in options.processors:
                continue
            for way in options.ways:
                for model in options.models:
                    for count in RECORDS:
                        if way == "from these alone" and count == 0:
                            continue
                        results.get(
                            key(target.name, count, model, way, seed),
                            run,
                            target,
                            model,
                            way,
                            count=count,
                            seed=seed,
                            folder=folder,
                        )
    picture = options.page.with_suffix(".png")
    judged = {each.partition(" | ")[0] for each in results.values}
    names = [target.name for target in known if target.name in judged]
    chart(results.values, names, picture)
    about = (__doc__ or "").strip()
    page = (
        f"# {about.splitlines()[0].rstrip('.')}\n\n{results.header(PARTS)}\n\n"
        f"{about.split(chr(10) * 2)[1]} Of each task {PER_TASK} programs are given.\n\n"
        f"![error and order against programs]({picture.name})\n\n"
        f"{table(results.values, names)}\n\n"
        "Mean over the seeds, in brackets least and most; `gbt`, `halide` and `graphsage` are the "
        "members of the ensemble. Columns as in [leaderboard.md](leaderboard.md).\n"
    )
    write_atomically(options.page, page.encode())
    print(page)


def key(name: str, count: int, model: str, way: str, seed: int) -> str:
    """Under which a result is kept."""
    return f"{name} | {count} | {model} | {way} | {seed}"


def known_of(
    results: Mapping[str, Any], name: str, count: int, model: str, way: str
) -> list[dict[str, float | None]]:
    """The results of all seeds that were measured."""
    keys = (key(name, count, model, way, seed) for seed in SEEDS)
    return [results[each] for each in keys if each in results]


def table(results: Mapping[str, Any], names: Sequence[str]) -> str:
    """The whole table as Markdown."""
    lines = ["| left out | programs | model | learned | seeds | " + " | ".join(SHOWN) + " |"]
    lines.append("|---" * (5 + len(SHOWN)) + "|")
    for name in names:
        for count in RECORDS:
            for model in MODELS:
                for way in WAYS:
                    found = known_of(results, name, count, model, way)
                    if not found:
                        continue
                    cells = " | ".join(shown([each[column] for each in found]) for column in SHOWN)
                    lines.append(f"| {name} | {count} | {model} | {way} | {len(found)} | {cells} |")
    return "\n".join(lines)


def chart(results: Mapping[str, Any], names: Sequence[str], path: Path) -> None:
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
            for number, model in enumerate(MODELS):
                for way, style in zip(WAYS, ("-o", "--^", ":s"), strict=True):
                    found = [known_of(results, name, count, model, way) for count in RECORDS]
                    if not any(found):
                        continue
                    places = [place for place, each in enumerate(found) if each]
                    means = [np.mean([one[score] for one in found[place]]) for place in places]
                    label = f"{model}, {way}"
                    axes.plot(places, means, style, color=f"C{number}", label=label, markersize=4)
            axes.set_xticks(range(len(RECORDS)), map(str, RECORDS))
            axes.set_title(name, fontsize=9)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_ylabel(title)
        if score == "median_ape":
            line[0].set_ylim(0.0, 1.1 * line[0].get_ylim()[1])
    for axes in grid[-1]:
        axes.set_xlabel("programs measured on the processor")
    grid[0][0].legend(fontsize=7, frameon=False)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, held.getvalue())


if __name__ == "__main__":
    main()
