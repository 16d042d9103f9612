"""Measure the data set `shipped:networks`: whole networks, end to end and kernel by kernel.

Twelve families of small networks. Four of them test: they were chosen before anything was trained,
and no model that is judged on them has seen a kernel of theirs. Each network is measured with
unscheduled kernels; some also with schedules chosen by `pretrained:best`, without fusion, and for a
second target, one core with the instructions of `-mcpu=x86-64`.
"""

import argparse
import sys
from pathlib import Path

from benchmark_results import ROOT
from collect_cpu import SSE, run

from tvm_integration.zoo import zoo_families

TEST_FAMILIES = ("dense", "inception", "unet", "vision_transformer")
PER_FAMILY = 26
"""312 networks in all."""
SECOND_TARGET = 10
CHOSEN, UNFUSED = 5, 8


def networks(per_family: int) -> list[str]:
    """The first networks of each family, families in turn, so that any part of it is balanced."""
    return [
        f"zoo:{family},number={number}"
        for number in range(1, per_family + 1)
        for family in zoo_families()
    ]


PARTS = {
    "default": (networks(PER_FAMILY), []),
    "second target": (networks(SECOND_TARGET), ["--target", SSE]),
    "unfused": (networks(UNFUSED), ["--unfused"]),
    "chosen": (networks(CHOSEN), ["--schedules-by", "pretrained:best"]),
}


def main() -> None:
    """Measure what is missing, then save the split by family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "work/networks")
    parser.add_argument("--minutes", type=float, help="end each part after this many")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    limit = [] if options.minutes is None else ["--minutes", str(options.minutes)]
    for name in options.parts:
        print(f"== {name}", flush=True)
        models, more = PARTS[name]
        run(["collect", *models, "--networks", "--out", str(options.out), *more, *limit])
    (options.out / "splits/families.json").unlink(missing_ok=True)  # of what was there before
    test = [word for family in TEST_FAMILIES for word in ("--test", f"zoo:{family},*")]
    by = ["--name", "families", "--by", "network"]
    run(["dataset", "split", str(options.out), *by, *test])
    sys.stdout.flush()
    run(["dataset", "describe", str(options.out)])


if __name__ == "__main__":
    main()
