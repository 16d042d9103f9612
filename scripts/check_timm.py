"""Estimate one small network of each family of timm; compare the outputs of some with torch's.

timm is no dependency of this package: run this in an environment that has it as well. Random
weights; unscheduled kernels; each network in a process of its own. Writes docs/timm.md.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results
from rich.console import Console
from timm_networks import FAMILIES

from costmodels.files import write_atomically
from tvm_integration.cli.progress import counted

SCRIPTS = Path(__file__).resolve().parent
TIMEOUT_S = 900
CHECKED = (
    *(
        "byoanet",
        "byobnet",
        "coat",
        "convnext",
        "crossvit",
        "cspnet",
        "edgenext",
        "efficientformer",
    ),
    *("efficientnet", "fastvit", "ghostnet", "levit", "mobilenetv3", "mobilevit", "pit", "pvt_v2"),
    *(
        "regnet",
        "repvit",
        "resnet",
        "rexnet",
        "starnet",
        "swiftformer",
        "vision_transformer",
        "xcit",
    ),
)
"""Families whose outputs are compared: small networks of many kinds."""
KINDS = {
    "estimated": "estimated",
    "partial": "without a total, for some kernels have no estimate",
    "refused": "refused in one line",
    "crash": "ended otherwise",
}
"""Outcome -> what it means."""


def estimate(name: str, *, check: bool) -> dict[str, Any]:
    """What `costmodels estimate` says of a network, and whether its outputs were compared."""
    command = [sys.executable, "-m", "tvm_integration.cli", "estimate", f"timm_networks:{name}"]
    command += ["--json", *(["--check"] if check else [])]
    paths = [str(SCRIPTS), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment |= {"OMP_NUM_THREADS": "1", "TVM_BIND_THREADS": "0"}  # processes share the cores
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"kind": "crash", "note": f"not within {TIMEOUT_S} s"}
    said = (done.stderr.strip().splitlines() or [""])[-1]
    if done.returncode == 0:
        document = json.loads(done.stdout[done.stdout.index("{") :])
        if document["total_s"] is None:
            unknown = [f"{each['name']}: {each['reason']}" for each in document["unsupported"]]
            return {"kind": "partial", "note": "; ".join(unknown)[:400]}
        return {
            "kind": "estimated",
            "total_s": document["total_s"],
            "kernels": len(document["kernels"]),
            "checked": check,
        }
    kind = "refused" if done.returncode == 2 and said.startswith("error: ") else "crash"
    return {"kind": kind, "note": said.removeprefix("error: ")[:400]}


def main() -> None:
    """Check what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="check all families anew")
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--at-once", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/timm.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/timm.md")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    todo = [family for family in options.families if family not in results.values]
    console = Console(stderr=True, highlight=False)
    with ThreadPoolExecutor(options.at_once) as pool, counted(console, "families") as on_progress:

        def one(family: str) -> dict[str, Any]:
            return estimate(FAMILIES[family], check=family in CHECKED)

        for number, (family, found) in enumerate(
            zip(todo, pool.map(one, todo), strict=True), start=1
        ):
            results.get(family, dict, found)
            on_progress(number, len(todo))
    write_atomically(options.page, page(results.values, results.header()).encode())


def page(values: Mapping[str, Any], header: str) -> str:
    """The page of docs/."""
    import timm

    counts = Counter(value["kind"] for value in values.values())
    checked = sum(bool(value.get("checked")) for value in values.values())
    lines = [
        "# Networks of timm",
        "",
        header,
        "",
        f"One small network of each of {len(values)} families of timm {timm.__version__}, random "
        "weights, from torch: "
        + ", ".join(f"{counts[kind]} {text}" for kind, text in KINDS.items() if counts[kind])
        + f". Of {checked} the outputs were compared with torch's, and are equal. Estimates are of "
        "unscheduled kernels, by `pretrained:best`, for the machine that each was made on, as "
        "calibrated as it was: do not compare them.",
        "",
        "| family | network | kernels | estimate, ms | outputs |",
        "|---|---|---|---|---|",
    ]
    for family, value in sorted(values.items()):
        name = FAMILIES[family]
        if value["kind"] == "estimated":
            compared = "equal torch's" if value["checked"] else ""
            cells = f"{value['kernels']} | {value['total_s'] * 1e3:.1f} | {compared}"
        else:
            cells = f"- | {value['note'].replace('|', chr(92) + '|')} | "
        lines.append(f"| {family} | {name} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
