"""An estimate as a page to look at: where the time goes, the fused graph, a table to sort."""

import json
from collections.abc import Mapping
from typing import Any

import networkx as nx

from costmodels.pages.render import render
from tvm_integration.cli.formatting import seconds_text
from tvm_integration.estimate.result import Estimate, EstimatedKernel

BARS = 12
"""Kernels with a bar of their own; the others are one."""
STEP, LANE = 30, 26
"""Distances of launches in the drawing, in pixels: along the network and across."""
_COLORS = {
    "measured": "#2a7f62",
    "looked up": "#8f6bb3",
    "predicted": "#2f6690",
    "unknown": "#d1495b",
    "library": "#e0a030",
}
_GRAY = "#9db4c8"
_COLUMNS = (
    *("kernel", "calls", "latency", "interval", "share"),
    *("bound at peak", "source", "layers"),
)
_NUMBERS = ("calls", "latency", "interval", "share")
"""Columns that are aligned and sorted as numbers."""


def estimate_html(estimate: Estimate) -> str:
    """Describe an estimate as a page that needs no network.

    Parameters
    ----------
    estimate : Estimate
        Whole or partial.

    Returns
    -------
    str
        HTML.
    """
    found = estimate.provenance
    whole_s = sum(map(_seconds, estimate.kernels)) or 1.0
    return render(
        "estimate.html",
        network=estimate.network,
        model=found["model"],
        schedules=found["schedules"],
        device=found["device"]["name"],
        figures=_figures(estimate),
        unsupported=estimate.unsupported,
        bars=_bars(estimate),
        colors=_COLORS,
        **_drawing(estimate),
        columns=_COLUMNS,
        numbers=_NUMBERS,
        rows=[_row(kernel, whole_s, estimate.has_interval) for kernel in estimate.kernels],
        provenance=json.dumps(dict(found), indent=1, default=str),
    )


def _figures(estimate: Estimate) -> dict[str, str]:
    total = estimate.total
    launches = len(estimate.graph.launches)
    figures = {
        "latency": "not known" if total is None else seconds_text(total.total_s),
        "kernels": f"{len(estimate.kernels):,}",
        "launches": f"{launches:,}",
        "schedules": estimate.what,
    }
    if total is not None:
        if estimate.has_interval:
            ends = f"{seconds_text(total.low_s)} to {seconds_text(total.high_s)}"
            figures = {"latency": figures["latency"], "90 % interval": ends, **figures}
        if total.launches_s or total.cold_s:
            figures["between kernels"] = seconds_text(total.launches_s + total.cold_s)
        if estimate.provenance["schedules"] == "default":
            figures |= {
                f"after {each.trials:,} trials a kernel": seconds_text(each.total.total_s)
                for each in estimate.tuned
                if each.total is not None
            }
        figures["calibrated on"] = {"kernels": "kernels alone", "none": "nothing"}.get(
            estimate.calibration, estimate.calibration
        )
    return figures


def _bars(estimate: Estimate) -> list[dict[str, str]]:
    """What the total is made of, the largest kernels first; nothing without a total."""
    total = estimate.total
    if total is None:
        return []
    known = [kernel for kernel in estimate.kernels if kernel.latency is not None]
    parts = [
        (f"{kernel.count} × {kernel.name}", _seconds(kernel), _COLORS[kernel.latency.source])
        for kernel in known[:BARS]
        if kernel.latency is not None
    ]
    if rest := known[BARS:]:
        parts.append((f"{len(rest)} more kernels", sum(map(_seconds, rest)), _GRAY))
    between = (("launches", total.launches_s), ("cold weights", total.cold_s))
    parts += [(name, seconds, _GRAY) for name, seconds in between if seconds > 0]
    largest_s = max((seconds for _, seconds, _ in parts), default=1.0) or 1.0
    return [
        {
            "name": name,
            "latency": seconds_text(seconds),
            "share": f"{seconds / (total.total_s or 1.0):.1%}",
            "width": f"{100 * seconds / largest_s:.1f}%",
            "color": color,
        }
        for name, seconds, color in parts
    ]


def _drawing(estimate: Estimate) -> dict[str, Any]:
    """Launches from left to right by how many they wait for, edges from producer to consumer."""
    graph = estimate.graph.networkx()
    places: dict[int, tuple[int, int]] = {}
    lanes = 1
    for depth, generation in enumerate(nx.topological_generations(graph)):
        for lane, launch in enumerate(sorted(generation)):
            places[launch] = (STEP // 2 + depth * STEP, LANE // 2 + lane * LANE)
            lanes = max(lanes, lane + 1)
    edges = []
    for producer, consumer in graph.edges:
        (x1, y1), (x2, y2) = places[producer], places[consumer]
        middle = (x1 + x2) / 2
        edges.append(f"M{x1} {y1}C{middle:g} {y1} {middle:g} {y2} {x2} {y2}")
    kernels = {kernel.name: kernel for kernel in estimate.kernels}
    longest_s = max([_once(kernel) for kernel in kernels.values()], default=0.0) or 1.0
    launches = []
    for number, launch in enumerate(estimate.graph.launches):
        x, y = places[number]
        kernel = kernels.get(launch.name)
        latency = None if kernel is None else kernel.latency
        source = "unknown" if latency is None else latency.source
        radius = 4.0 if latency is None else 2.5 + 8.5 * (latency.latency_s / longest_s) ** 0.5
        told = "latency not known" if latency is None else seconds_text(latency.latency_s)
        launches.append(
            {
                "x": x,
                "y": y,
                "radius": f"{radius:.1f}",
                "color": _COLORS["library" if launch.kind == "library" else source],
                "title": f"{number + 1}: {launch.name}, {told}",
            }
        )
    width = max((x for x, _ in places.values()), default=0) + STEP // 2
    return {"edges": edges, "launches": launches, "width": width, "height": lanes * LANE}


def _once(kernel: EstimatedKernel) -> float:
    return 0.0 if kernel.latency is None else kernel.latency.latency_s


def _seconds(kernel: EstimatedKernel) -> float:
    return kernel.count * _once(kernel)


def _row(
    kernel: EstimatedKernel, whole_s: float, has_interval: bool
) -> Mapping[str, Mapping[str, Any]]:
    """Column -> text, and what it is sorted by where that is a number."""
    latency = kernel.latency
    if latency is None:
        times = dict.fromkeys(("latency", "interval", "share"), ("-", -1.0))
        source = kernel.note or "not known"
    else:
        interval = "-"
        if has_interval or latency.source == "measured":
            interval = f"{seconds_text(latency.low_s)} to {seconds_text(latency.high_s)}"
        share = _seconds(kernel) / whole_s
        times = {
            "latency": (seconds_text(latency.latency_s), latency.latency_s),
            "interval": (interval, latency.high_s / latency.low_s),
            "share": (f"{share:.1%}", share),
        }
        source = f"{latency.source}; {kernel.note}" if kernel.note else latency.source
    cells: dict[str, tuple[str, float | None]] = {
        "kernel": (kernel.name, None),
        "calls": (str(kernel.count), float(kernel.count)),
        **times,
        "bound at peak": (kernel.bound, None),
        "source": (source, None),
        "layers": (", ".join(kernel.layers), None),
    }
    return {name: {"text": cells[name][0], "value": cells[name][1]} for name in _COLUMNS}
