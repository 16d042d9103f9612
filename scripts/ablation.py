"""Which parts of the graph model matter: each left out or replaced, over three seeds.

Learned from the training tasks of `shipped:cpu` split by network, judged on its validation tasks,
the kernels of a RegNet: the test networks choose nothing. One network each, not a mean of several.
Writes docs/ablation.md.
"""

import argparse
from pathlib import Path

import numpy as np
from benchmark_results import ROOT, Results
from leaderboard import SEEDS, NearBest, judge, parts_of, shown

from costmodels.evaluation import SplitParts
from costmodels.files import write_atomically
from costmodels.kernel_models.graphsage import GraphSage, GraphSageShape
from costmodels.learning.kernel_training import TrainingConfig
from costmodels.learning.neural_model import NeuralConfig
from costmodels.model_scores import TestSet

DATASET, SPLIT = "shipped:cpu", "networks"
SHOWN = ("top1", "top5", "kendall_tau", "pair_accuracy", "median_ape")
SHAPES = {
    "as it is: schedule at nodes and kernel, mean and max": GraphSageShape(),
    "schedule at the nodes alone": GraphSageShape(schedule="nodes"),
    "schedule at the kernel alone": GraphSageShape(schedule="kernel"),
    "no schedule": GraphSageShape(schedule="none"),
    "no graph: sum over stages": GraphSageShape(graph=False, schedule="kernel"),
    "no neighbours": GraphSageShape(layers=0),
    "three layers": GraphSageShape(layers=3),
    "mean alone": GraphSageShape(pooling=("mean",)),
    "max alone": GraphSageShape(pooling=("max",)),
    "sum as well": GraphSageShape(pooling=("mean", "max", "sum")),
}
LOSSES = ("squared_error", "lambda_rank", "list_wise")


def variants() -> dict[str, tuple[GraphSageShape, NeuralConfig]]:
    """Name -> what is trained."""
    found = {name: (shape, NeuralConfig(members=1)) for name, shape in SHAPES.items()}
    for loss in LOSSES:
        config = NeuralConfig(TrainingConfig(loss=loss), members=1)
        found[f"loss {loss}"] = (GraphSageShape(), config)
    return found


def validating() -> tuple[SplitParts, NearBest]:
    """The training tasks, and the validation tasks to judge by."""
    parts, _ = parts_of(DATASET, SPLIT)
    assert parts.validation is not None
    ran = parts.validation.take(np.flatnonzero(parts.validation.measured))
    return SplitParts(parts.train, None, TestSet(ran, {})), NearBest(ran)


def judge_one(model: GraphSage, seed: int) -> dict[str, float | None]:
    """Of the validation tasks."""
    return judge(model, *validating(), seed)


def main() -> None:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="train everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/ablation.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/ablation.md")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    lines = ["| | " + " | ".join(SHOWN) + " |", "|---" * (1 + len(SHOWN)) + "|"]
    for name, (shape, config) in variants().items():
        found = []
        for seed in SEEDS:
            model = GraphSage(shape, config, rng=np.random.default_rng(seed))
            found.append(
                results.get(
                    f"{name} | {seed}",
                    judge_one,
                    model,
                    seed,
                )
            )
        cells = [shown([each[column] for each in found]) for column in SHOWN]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    about = (__doc__ or "").split("\n\n")
    page = (
        f"# Parts of the graph model\n\n{results.header()}\n\n{about[0]}\n\n{about[1].strip()}\n\n"
    )
    page += "\n".join(lines) + "\n"
    write_atomically(options.page, page.encode())
    print(page)


if __name__ == "__main__":
    main()
