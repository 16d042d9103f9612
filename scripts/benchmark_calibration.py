"""Estimates on this processor: not calibrated, after `calibrate --quick`, and after `calibrate`.

Networks with default schedules, measured whole in processes of their own; by default thirty of
timm. The model must not have learned from this processor (`--model` names one that has not), or
from these networks. Writes docs/calibration.md.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results
from timm_networks import NAMES

from costmodels.errors import CostModelError
from costmodels.files import write_atomically
from costmodels.json_text import from_values
from costmodels.network_models.overheads import Overheads

SCRIPTS = Path(__file__).resolve().parent
WAYS = ("none", "quick", "networks")
SHOWN = {"none": "not calibrated", "quick": "`calibrate --quick`", "networks": "`calibrate`"}
GOAL = 0.08
"""Mean error after `calibrate`."""
GOALS = {"none": "holds 80 %", "quick": "12 %, holds 85 to 95 %", "networks": "8 %, likewise"}


def measured(model: str) -> float | str:
    """Seconds of a network, or why it was not measured."""
    from tvm_integration.collect.network_process import NetworkProcess
    from tvm_integration.identity import target_text
    from tvm_integration.targets import host_target

    try:
        with NetworkProcess(model, target_text(host_target())) as network:
            return median(network.measure_s(3))
    except CostModelError as error:
        return str(error)


def calibrated(way: str, name: str) -> dict[str, Any]:
    """Overheads of a way to calibrate, and how long it took."""
    from costmodels.load_model import load_kernel_model
    from tvm_integration.estimate.network_calibration import calibrate_on_networks
    from tvm_integration.estimate.overheads_file import known_overheads
    from tvm_integration.estimate.quick_calibration import calibrate_quickly
    from tvm_integration.targets import device_of, host_target

    target, model = host_target(), load_kernel_model(name, seed=0)
    device = device_of(target)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if way == "none":
            os.environ["XDG_CACHE_HOME"] = folder  # nothing is kept there
            found = known_overheads(target, device, name)
        elif way == "quick":
            found = calibrate_quickly(target, device, model)
        else:
            found = calibrate_on_networks(target, device, model, Path(folder) / "networks")
    # One line: hundreds of kernels correct others.
    return {"seconds": time.perf_counter() - start, "overheads": json.dumps(asdict(found))}


def estimated(model: str, name: str, overheads: str) -> dict[str, float] | str:
    """The estimate of a network, or why there is none."""
    from costmodels.load_model import load_kernel_model
    from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
    from tvm_integration.estimate.network_features import describe_network
    from tvm_integration.targets import device_of, host_target

    target = host_target()
    options = EstimateOptions(overheads=from_values(Overheads, json.loads(overheads), "overheads"))
    try:
        found = estimate_network(
            describe_network(model, target),
            target,
            device_of(target),
            load_kernel_model(name, seed=0),
            options,
            model_name=name,
        )
    except CostModelError as error:
        return str(error)
    if found.total is None:
        return "; ".join(f"{each.name}: {each.reason}" for each in found.unsupported)
    return {"s": found.total.total_s, "low": found.total.low_s, "high": found.total.high_s}


def main() -> None:
    """Measure what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=[f"timm_networks:{name}" for name in NAMES])
    parser.add_argument("--model", default="pretrained:best")
    parser.add_argument("--about", default="", help="what the page shall say of the model")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "work/benchmarks/calibration.json")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/calibration.md")
    options = parser.parse_args()
    sys.path.insert(0, str(SCRIPTS))
    paths = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)  # for the processes of the networks
    results = Results(options.out, fresh=options.fresh)
    for way in WAYS:
        results.get(f"calibrated | {way}", calibrated, way, options.model)
    for network in options.networks:
        results.get(f"measured | {network}", measured, network)
        for way in WAYS:
            found = results.values[f"calibrated | {way}"]["overheads"]
            with contextlib.redirect_stdout(sys.stderr):
                results.get(
                    f"estimated | {network} | {way}",
                    estimated,
                    network,
                    options.model,
                    found,
                )
    picture = options.page.with_suffix(".png")
    chart(results.values, options.networks, picture)
    # The page says it already; its command need not.
    sys.argv = [word for word in sys.argv if word not in ("--about", options.about)]
    about = " ".join([(__doc__ or "").split(chr(10) * 2)[1].strip(), options.about]).strip()
    page = (
        f"# Estimates before and after calibration\n\n{results.header()}\n\n{about}\n\n"
        f"![estimated over measured]({picture.name})\n\n"
        f"{table(results.values, options.networks)}\n"
    )
    write_atomically(options.page, page.encode())
    print(page)


def known_of(values: Mapping[str, Any], networks: Sequence[str]) -> list[str]:
    """Networks that were measured and estimated."""
    measured = [n for n in networks if isinstance(values[f"measured | {n}"], float)]
    return [n for n in measured if isinstance(values[f"estimated | {n} | none"], dict)]


def chart(values: Mapping[str, Any], networks: Sequence[str], path: Path) -> None:
    """Draw of each network how far each way is off, with the last one's interval."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    known = known_of(values, networks)
    figure, axes = pyplot.subplots(figsize=(7, 0.24 * len(known) + 1.2), layout="constrained")
    axes.axvspan(1 - GOAL, 1 + GOAL, color="0.92", label=f"within {GOAL:.0%}")
    axes.axvline(1.0, color="0.5", linewidth=0.8)
    for place, (way, mark) in enumerate(zip(WAYS, "xos", strict=True)):
        found = [values[f"estimated | {n} | {way}"] for n in known]
        truth = [values[f"measured | {n}"] for n in known]
        ratio = [each["s"] / t for each, t in zip(found, truth, strict=True)]
        label = SHOWN[way].strip("`")
        axes.plot(ratio, range(len(known)), mark, color=f"C{place}", markersize=5, label=label)
        if way == WAYS[-1]:
            low = [each["low"] / t for each, t in zip(found, truth, strict=True)]
            high = [each["high"] / t for each, t in zip(found, truth, strict=True)]
            axes.hlines(range(len(known)), low, high, color=f"C{place}", linewidth=1, alpha=0.6)
    axes.set_yticks(range(len(known)), [n.rpartition(":")[2] for n in known], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("estimated over measured latency; lines: 90 % interval after calibrate")
    axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.4, 1.1), ncols=4)
    axes.spines[["top", "right"]].set_visible(False)
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=120)
    write_atomically(path, held.getvalue())


def table(values: Mapping[str, Any], networks: Sequence[str]) -> str:
    """Errors of each way, then every network, as Markdown."""
    known = known_of(values, networks)
    lines = ["| | takes, s | networks | error, mean | median | largest | interval holds | goal |"]
    lines.append("|---" * 8 + "|")
    for way in WAYS:
        truth = np.array([values[f"measured | {n}"] for n in known])
        found = [values[f"estimated | {n} | {way}"] for n in known]
        error = np.abs(np.array([each["s"] for each in found]) / truth - 1)
        holds = [each["low"] <= t <= each["high"] for each, t in zip(found, truth, strict=True)]
        seconds = values[f"calibrated | {way}"]["seconds"]
        lines.append(
            f"| {SHOWN[way]} | {seconds:.0f} | {len(known)} | {error.mean():.1%} | "
            f"{np.median(error):.1%} | {error.max():.1%} | {np.mean(holds):.0%} | {GOALS[way]} |"
        )
    lines += ["", "| network | measured, ms | " + " | ".join(SHOWN.values()) + " |"]
    lines.append("|---" * (2 + len(WAYS)) + "|")
    for network in networks:
        seconds, name = values[f"measured | {network}"], network.rpartition(":")[2]
        if network not in known:
            why = seconds if isinstance(seconds, str) else values[f"estimated | {network} | none"]
            lines.append(f"| {name} | - | {why} | | |")
            continue
        cells = []
        for way in WAYS:
            found = values[f"estimated | {network} | {way}"]
            inside = found["low"] <= seconds <= found["high"]
            held = "" if inside else ", outside"
            cells.append(f"{found['s'] / seconds:.2f}{held}")
        lines.append(f"| {name} | {seconds * 1e3:.2f} | {' | '.join(cells)} |")
    lines.append("\nOf each way: the estimate over what was measured.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
