"""Train the models that travel with the package on all CPU data that ships.

What they are worth on kernels never seen is told by `leaderboard.py`, for models that learned from
the training part of a split alone; these have seen every network. Their provenance says so. How far
they are off on families of networks never seen is learned from models that leave some out.
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark_results import ROOT, Results
from collect_cpu import run
from left_out_families import KERNELS, NETWORKS, cases, learn_factors
from rich.console import Console

from costmodels.checkpoint import add_provenance, load_checkpoint
from costmodels.dataset.folder import read_dataset
from costmodels.dataset.locate import dataset_path
from costmodels.kernel_models.ensemble import MEMBERS, Ensemble
from costmodels.learned_tasks import learned_array
from costmodels.network_models.unseen_families import FACTORS, write_factors
from tvm_integration.cli.progress import counted, timed_bar
from tvm_integration.learn.train import train_model

DATASETS = (*KERNELS, NETWORKS)
MODELS = ("ensemble", *MEMBERS)
PARTS = ("models", "unseen")
MAX_BYTES = 6_500_000


def main() -> None:
    """Train, and refuse what is too large to ship."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "costmodels/shipped/models")
    parser.add_argument("--fresh", action="store_true", help="leave every family out again")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if "models" in options.parts:
        with TemporaryDirectory() as folder:
            both = Path(folder) / "cpu-networks"
            run(["dataset", "merge", *map(str, map(dataset_path, DATASETS)), "--out", str(both)])
            train_all(options.out, both)
    if "unseen" in options.parts:
        kept = ROOT / "docs/benchmarks/unseen_families.json"
        learn_unseen(options.out / FACTORS, Results(kept, fresh=options.fresh))


def train_all(out: Path, data: Path) -> None:
    """Train the ensemble on a data set; its members are the other models."""
    dataset = read_dataset(data)
    console = Console(stderr=True, highlight=False)
    path = out / "ensemble.ckpt"
    with counted(console, "programs") as on_features, timed_bar(console, "steps") as on_step:
        ensemble = train_model(dataset, "ensemble", path, on_features=on_features, on_step=on_step)
    assert isinstance(ensemble, Ensemble)
    provenance = load_checkpoint(path).provenance
    for name, member in zip(MEMBERS, ensemble.members, strict=True):
        member.save(out / f"{name}.ckpt")
        learned = learned_array(dataset.tasks, None)
        add_provenance(out / f"{name}.ckpt", provenance, schema=member.schema, arrays=learned)
    for name in MODELS:
        size = (out / f"{name}.ckpt").stat().st_size
        print(f"{name}: {size / 1e6:.2f} MB")
        if size > MAX_BYTES:
            sys.exit(f"{name} must be at most {MAX_BYTES / 1e6:.0f} MB to be shipped")


def learn_unseen(path: Path, results: Results) -> None:
    """Learn how far models are off on families of networks that are left out in turn.

    Models without intervals have nothing to widen or narrow.
    """
    fused = {case.name for case in cases() if case.fused}
    known = {
        name: [each for case, each in by_case.items() if case in fused]
        for name, by_case in learn_factors(results, MODELS, frozenset()).items()
        if by_case
    }
    write_factors(path, known)
    for name, factors in known.items():
        for each in factors:
            print(f"{name}: {each}", flush=True)


if __name__ == "__main__":
    main()
