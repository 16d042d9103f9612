"""An estimate as a page to look at: where the time goes, the fused graph, a table to sort."""

import html
import json
from collections.abc import Sequence

import networkx as nx

from costmodels.pages.html_page import key_figures, page
from tvm_integration.cli.formatting import seconds_text
from tvm_integration.estimate.estimate import SCHEDULES, Estimate, EstimatedKernel

BARS = 12
"""Kernels with a bar of their own; the others are one."""
STEP, LANE = 30, 26
"""Distances of launches in the drawing, in pixels: along the network and across."""
_COLOURS = {
    "measured": "#2a7f62",
    "looked up": "#8f6bb3",
    "predicted": "#2f6690",
    "unknown": "#d1495b",
    "library": "#e0a030",
}

_STYLE = """
.bars { display: grid; grid-template-columns: minmax(8rem, 20rem) 1fr 5.5rem; gap: .2rem .7rem;
        align-items: center }
.bars > .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.bars > .bar { background: #f3f6f9; border-radius: .2rem }
.bars > .bar > div { height: 1.05rem; border-radius: .2rem; min-width: 2px }
.bars > .value { text-align: right; font-variant-numeric: tabular-nums }
.scroll { overflow-x: auto; border: 1px solid #e3e8ee; border-radius: .4rem; padding: .4rem }
.scroll svg { max-width: none } svg .edge { stroke: #b8c4cf; fill: none }
.key span { display: inline-block; margin-right: 1.2rem } .key i { display: inline-block;
  width: .8rem; height: .8rem; border-radius: 50%; margin-right: .35rem; vertical-align: -.08rem }
th button { all: unset; cursor: pointer; font-weight: 600 } th button:focus-visible {
  outline: 2px solid #2f6690 } th[aria-sort=ascending] button::after { content: " ▲" }
th[aria-sort=descending] button::after { content: " ▼" }
table.sortable td:not(:first-child) { overflow-wrap: break-word }
dl { grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr)) }
p.warning { background: #fdf0f1; border-left: .25rem solid #d1495b; padding: .5rem .8rem }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; color: #52616f }
"""

_SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const header = button.parentElement;
      const down = header.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => {
        const text = row.cells[column].dataset.value ?? row.cells[column].textContent;
        return text === "" || isNaN(text) ? text : Number(text);
      };
      const rows = [...body.rows].sort((one, other) => {
        const a = value(one), b = value(other);
        const order = typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0)
          : typeof a === "number" ? 1 : -1;
        return down ? -order : order;
      });
      body.append(...rows);
    });
  });
}
"""


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
    parts = [
        f"<h1>{html.escape(estimate.network)}</h1>",
        f'<p class="note">estimated by {html.escape(str(found["model"]))}, '
        f"schedules {html.escape(str(found['schedules']))}, on "
        f"{html.escape(str(found['device']['name']))}; nothing was run</p>",
        key_figures(_figures(estimate)),
    ]
    if estimate.unsupported:
        parts.append(_missing(estimate))
    if estimate.total is not None:
        parts += ["<h2>Where the time goes</h2>", _bars(estimate)]
    parts += ["<h2>The network after fusion</h2>", _key(), _drawing(estimate)]
    parts += ["<h2>Kernels</h2>", _table(estimate)]
    text = html.escape(json.dumps(dict(found), indent=1, default=str))
    parts += ["<h2>Provenance</h2>", f"<pre>{text}</pre>"]
    return page(f"{estimate.network}: estimate", parts, style=_STYLE, script=_SCRIPT)


def _figures(estimate: Estimate) -> dict[str, str]:
    total = estimate.total
    launches = len(estimate.graph.launches)
    figures = {
        "latency": "not known" if total is None else seconds_text(total.total_s),
        "kernels": f"{len(estimate.kernels):,}",
        "launches": f"{launches:,}",
        "schedules": SCHEDULES[estimate.provenance["schedules"]],
    }
    if total is not None:
        if estimate.has_interval:
            ends = f"{seconds_text(total.low_s)} to {seconds_text(total.high_s)}"
            figures = {"latency": figures["latency"], "90 % interval": ends, **figures}
        if total.launches_s or total.cold_s:
            figures["between kernels"] = seconds_text(total.launches_s + total.cold_s)
        figures["calibrated on"] = {"kernels": "kernels alone", "none": "nothing"}.get(
            estimate.calibration, estimate.calibration
        )
    return figures


def _missing(estimate: Estimate) -> str:
    what = "The latency is withheld" if estimate.total is None else "The latency is of a part only"
    rows = "".join(
        f"<li><b>{html.escape(each.name)}</b>, {each.count} launches: "
        f"{html.escape(each.reason)}</li>"
        for each in estimate.unsupported
    )
    return f'<p class="warning">{what}: what follows is not in it.</p><ul>{rows}</ul>'


def _parts(estimate: Estimate) -> list[tuple[str, float, str]]:
    """Name, seconds and colour of each bar."""
    assert estimate.total is not None
    known = [kernel for kernel in estimate.kernels if kernel.latency is not None]
    found = [
        (f"{kernel.count} × {kernel.name}", _seconds(kernel), _COLOURS[kernel.latency.source])
        for kernel in known[:BARS]
        if kernel.latency is not None
    ]
    rest = known[BARS:]
    if rest:
        found.append((f"{len(rest)} more kernels", sum(map(_seconds, rest)), "#9db4c8"))
    between = (("launches", estimate.total.launches_s), ("cold weights", estimate.total.cold_s))
    return found + [(name, seconds, "#9db4c8") for name, seconds in between if seconds > 0]


def _bars(estimate: Estimate) -> str:
    assert estimate.total is not None
    parts = _parts(estimate)
    largest = max((seconds for _, seconds, _ in parts), default=1.0) or 1.0
    whole = estimate.total.total_s or 1.0
    cells = []
    for name, seconds, colour in parts:
        escaped = html.escape(name)
        width = 100 * seconds / largest
        cells.append(
            f'<div class="name" title="{escaped}">{escaped}</div>'
            f'<div class="bar" title="{seconds / whole:.1%}">'
            f'<div style="width:{width:.1f}%;background:{colour}"></div></div>'
            f'<div class="value">{seconds_text(seconds)}</div>'
        )
    return f'<div class="bars">{"".join(cells)}</div>'


def _key() -> str:
    names = "".join(
        f'<span><i style="background:{colour}"></i>{name}</span>'
        for name, colour in _COLOURS.items()
    )
    return f'<p class="key note">{names} the larger, the longer; point at one for its name</p>'


def _drawing(estimate: Estimate) -> str:
    """Launches from left to right by how many they wait for, edges from producer to consumer."""
    graph = estimate.graph.networkx()
    if not len(graph):
        return '<p class="note">It launches nothing.</p>'
    kernels = {kernel.name: kernel for kernel in estimate.kernels}
    places: dict[int, tuple[int, int]] = {}
    lanes = 1
    for depth, generation in enumerate(nx.topological_generations(graph)):
        for lane, launch in enumerate(sorted(generation)):
            places[launch] = (STEP // 2 + depth * STEP, LANE // 2 + lane * LANE)
            lanes = max(lanes, lane + 1)
    width = max(x for x, _ in places.values()) + STEP // 2
    drawn = []
    for producer, consumer in graph.edges:
        (x1, y1), (x2, y2) = places[producer], places[consumer]
        middle = (x1 + x2) / 2
        curve = f"M{x1} {y1}C{middle:g} {y1} {middle:g} {y2} {x2} {y2}"
        drawn.append(f'<path class="edge" d="{curve}"/>')
    longest = max([_once(kernel) for kernel in kernels.values()], default=0.0) or 1.0
    for number, launch in enumerate(estimate.graph.launches):
        x, y = places[number]
        kernel = kernels.get(launch.name)
        latency = None if kernel is None else kernel.latency
        source = "unknown" if latency is None else latency.source
        colour = _COLOURS["library" if launch.kind == "library" else source]
        radius = 4.0 if latency is None else 2.5 + 8.5 * (latency.latency_s / longest) ** 0.5
        told = "latency not known" if latency is None else seconds_text(latency.latency_s)
        title = html.escape(f"{number + 1}: {launch.name}, {told}")
        drawn.append(
            f'<circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{colour}">'
            f"<title>{title}</title></circle>"
        )
    size = f'width="{width}" height="{lanes * LANE}"'
    label = html.escape(f"{len(graph)} launches of {estimate.network}")
    return (
        f'<div class="scroll"><svg xmlns="http://www.w3.org/2000/svg" {size} role="img" '
        f'aria-label="{label}">{"".join(drawn)}</svg></div>'
    )


def _once(kernel: EstimatedKernel) -> float:
    return 0.0 if kernel.latency is None else kernel.latency.latency_s


def _seconds(kernel: EstimatedKernel) -> float:
    return kernel.count * _once(kernel)


def _table(estimate: Estimate) -> str:
    headers = (
        *("kernel", "calls", "latency", "interval", "share"),
        *("bound at peak", "source", "layers"),
    )
    numbers = {"calls", "latency", "interval", "share"}
    head = "".join(f"<th{_class(name in numbers)}><button>{name}</button></th>" for name in headers)
    whole = sum(map(_seconds, estimate.kernels)) or 1.0
    rows = [_row(kernel, whole, estimate.has_interval) for kernel in estimate.kernels]
    return (
        f'<table class="sortable"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _row(kernel: EstimatedKernel, whole: float, has_interval: bool) -> str:
    latency = kernel.latency
    cells: Sequence[tuple[str, float | str | None, bool]]
    if latency is None:
        cells = [("-", -1.0, True)] * 3
        source = kernel.note or "not known"
    else:
        interval = "-"
        if has_interval or latency.source == "measured":
            interval = f"{seconds_text(latency.low_s)} to {seconds_text(latency.high_s)}"
        share = _seconds(kernel) / whole
        cells = [
            (seconds_text(latency.latency_s), latency.latency_s, True),
            (interval, latency.high_s / latency.low_s, True),
            (f"{share:.1%}", share, True),
        ]
        source = f"{latency.source}; {kernel.note}" if kernel.note else latency.source
    everything = [
        (kernel.name, None, False),
        (str(kernel.count), float(kernel.count), True),
        *cells,
        (kernel.bound, None, False),
        (source, None, False),
        (", ".join(kernel.layers), None, False),
    ]
    return "<tr>" + "".join(_cell(*each) for each in everything) + "</tr>"


def _cell(text: str, value: float | str | None, is_number: bool) -> str:
    data = "" if value is None else f' data-value="{value}"'
    return f"<td{_class(is_number)}{data}>{html.escape(text)}</td>"
