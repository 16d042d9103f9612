"""Measure whole networks, end to end and kernel by kernel.

Twelve families of small networks. Four of them test: they were chosen before anything was trained,
and no model that is judged on them has seen a kernel of theirs. `shipped:networks` has each with
unscheduled kernels; some also without fusion, and for a second target, one core with the
instructions of `-mcpu=x86-64`. `shipped:chosen_networks` has some with schedules chosen by
`pretrained:best`; no model that ships has learned from it. `shipped:tuned_networks` has some that
were tuned as `costmodels tune` does it, with all that was measured on the way.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmark_results import ROOT
from collect_cpu import SSE, run

from tvm_integration.zoo import zoo_families

TEST_FAMILIES = ("dense", "inception", "unet", "vision_transformer")
CALIBRATION_SHARE = 4
"""One in so many networks of the training families calibrates: their numbers are multiples."""
PER_FAMILY = 26
"""312 networks in all."""
SECOND_TARGET = 10
UNFUSED = 4
TRIALS_EACH = 64
"""Of each kernel above 1 % of a network that is tuned."""
TUNED = {
    "dense": (20, 21, 6, 5),
    "encoder": (8, 11, 2, 22),
    "fire": (26, 10, 23, 17),
    "inception": (8, 20, 10, 7),
    "mixer": (7, 10, 13, 14),
    "nasbench201": (24, 18, 19, 11),
    "once_for_all": (23, 9, 22, 20),
    "plain": (10, 11, 26, 15),
    "residual": (21, 26, 15, 9),
    "shuffle": (1, 2, 3, 4),
    "unet": (6, 26, 1, 17),
    "vision_transformer": (14, 3, 9, 4),
}
"""Those of each family with the fewest heavy kernels: one takes half a minute to tune."""
TUNED_FIRST = ("encoder", "mixer", "plain", "unet", "vision_transformer", "residual")
"""Tuned in some three minutes each; one of the others takes up to a quarter of an hour."""
CURVES = (
    "zoo:plain,number=5",
    "zoo:encoder,number=10",
    "zoo:shuffle,number=22",
    "zoo:mixer,number=5",
    "zoo:fire,number=25",
    "zoo:unet,number=19",
)
"""Of each the kernel that takes longest untuned is tuned on: what many trials gain."""
TRIALS_OF_CURVES = 512
CHOSEN_TEST = range(1, 7)
CHOSEN_CALIBRATING = range(CALIBRATION_SHARE, 13, CALIBRATION_SHARE)
"""A search for each kernel takes long: networks that judge, and those that calibrate."""


def networks(numbers: Iterable[int], families: Iterable[str] = zoo_families()) -> list[str]:
    """Networks of each family, families in turn, so that any part of it is balanced."""
    return [f"zoo:{family},number={number}" for number in numbers for family in families]


def first(per_family: int) -> list[str]:
    """The first networks of each family."""
    return networks(range(1, per_family + 1))


TRAINING_FAMILIES = [family for family in zoo_families() if family not in TEST_FAMILIES]
PARTS = {
    "default": ("networks", first(PER_FAMILY), []),
    "second target": ("networks", first(SECOND_TARGET), ["--target", SSE]),
    "unfused": ("networks", first(UNFUSED), ["--unfused"]),
    "chosen": (
        "chosen_networks",
        networks(CHOSEN_TEST, TEST_FAMILIES) + networks(CHOSEN_CALIBRATING, TRAINING_FAMILIES),
        ["--schedules-by", "pretrained:best"],
    ),
    "tuned": (
        "tuned_networks",
        [
            f"zoo:{name},number={own[turn]}"
            for turn in range(4)
            for is_first in (True, False)
            for name, own in TUNED.items()
            if (name in TUNED_FIRST) == is_first
        ],
        ["--trials-each", str(TRIALS_EACH)],
    ),
}
"""Name -> data set, networks, further options."""


def collect_curves(out: Path) -> None:
    """Tune single kernels for long, each in a work directory, and put them together."""
    work_dirs = out / "tuning_curves_work"
    for network in CURVES:
        print(f"== {network}", flush=True)
        tuning = ["--tasks", "1", "--trials", str(TRIALS_OF_CURVES), "--trials-per-iter", "16"]
        quick = ["--no-library", "--no-check", "--work-dir", str(work_dirs / network)]
        run(["tune", network, *tuning, *quick])
    run(["dataset", "import", str(work_dirs), "--out", str(out / "tuning_curves")])


def main() -> None:
    """Measure what is missing, then save the splits by family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "work", help="folder of the data sets")
    parser.add_argument("--minutes", type=float, help="end each part after this many")
    parser.add_argument(
        "--parts", nargs="+", choices=[*PARTS, "curves"], default=[*PARTS, "curves"]
    )
    options = parser.parse_args()
    limit = [] if options.minutes is None else ["--minutes", str(options.minutes)]
    datasets = {}
    if "curves" in options.parts:
        collect_curves(options.out)
        options.parts.remove("curves")
    for name in options.parts:
        print(f"== {name}", flush=True)
        dataset, models, more = PARTS[name]
        path = datasets[dataset] = options.out / dataset
        run(["collect", *models, "--networks", "--out", str(path), *more, *limit])
    for path in datasets.values():
        (path / "splits/families.json").unlink(missing_ok=True)  # of what was there before
        test = [word for family in TEST_FAMILIES for word in ("--test", f"zoo:{family},*")]
        run(["dataset", "split", str(path), "--name", "families", "--by", "network", *test])
        sys.stdout.flush()
        run(["dataset", "describe", str(path)])


if __name__ == "__main__":
    main()
