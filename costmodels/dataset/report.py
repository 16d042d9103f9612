"""A data set as a page to look at: one self-contained HTML file with charts."""

import html
import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from costmodels.dataset.describe import (
    describe,
    latencies_by_task,
    reference_readings,
)
from costmodels.dataset.folder import StoredDataset
from costmodels.kernel import Failure, Measured

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c2733; background: #fff; }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
p.note { color: #52616f; margin-top: 0 }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)); gap: .6rem }
dl div { background: #f3f6f9; border-radius: .4rem; padding: .5rem .8rem }
dt { color: #52616f; font-size: .85rem } dd { margin: 0; font-size: 1.25rem }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: .15rem .6rem .15rem 0 }
td { overflow-wrap: anywhere; vertical-align: top } .columns > div { min-width: 0 }
td.number, th.number { white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums }
tr:nth-child(even) td { background: #f7f9fb } svg { max-width: 100%; height: auto }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 2rem }
"""


_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""Keeps the page the same for the same data, and free of links."""


def report_html(dataset: StoredDataset) -> str:
    """Describe a data set as a page that needs no network.

    Returns
    -------
    str
        HTML.
    """
    found = describe(dataset)
    spread, cv = found["spread"], found["repeat_cv"]
    drift = found["reference_drift"]
    figures = {
        "tasks": f"{found['tasks']:,}",
        "programs that ran": f"{found['valid']:,}",
        "programs that failed": f"{found['failed']:,}",
        "networks": f"{len(found['networks']):,}",
        "worst / best of a task (median)": "-" if spread is None else f"{spread['median']:.0f}×",
        "repeats differ by (median)": "-" if cv is None else f"{cv['median']:.2%}",
        "reference kernel drifts by": "-" if drift is None else f"{drift - 1:.1%}",
        "early stopped": f"{found['early_stopped']:,}",
    }
    charts = {
        "Tasks: all their programs, best to worst": _spread_chart,
        "How good programs of each origin are": _origin_chart,
        "The reference kernel over time": _reference_chart,
        "Latencies": _latency_chart,
    }
    parts = [
        f"<h1>{html.escape(dataset.name)}</h1>",
        f'<p class="note">{html.escape(str(found["licence"]))} · digest {found["digest"]} · '
        f"measured {found['first_measured'] or '-'} to {found['last_measured'] or '-'}</p>",
        "<dl>",
        *(f"<div><dt>{html.escape(k)}</dt><dd>{v}</dd></div>" for k, v in figures.items()),
        "</dl>",
    ]
    for title, chart in charts.items():
        drawn = chart(dataset)
        if drawn:
            parts += [f"<h2>{html.escape(title)}</h2>", drawn]
    parts.append('<div class="columns">')
    for title in (
        "networks",
        "operators",
        "dtypes",
        "origins",
        "failures",
        "devices",
        "processors",
    ):
        if found[title]:
            parts += [f"<div><h2>{title}</h2>", _table(found[title]), "</div>"]
    parts.append("</div>")
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(dataset.name)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _table(counts: Mapping[str, int]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{count:,}</td></tr>'
        for name, count in counts.items()
    )
    return f"<table>{rows}</table>"


def _draw(plot: Callable[[Any], None], *, height: float = 3.2) -> str:
    """An SVG of one chart."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "font.size": 9, "svg.hashsalt": "costmodels"}):
        figure, axis = plt.subplots(figsize=(9.5, height))
        axis.spines[["top", "right"]].set_visible(False)
        plot(axis)
        figure.tight_layout()
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=_NO_METADATA)
        plt.close(figure)
    text = file.getvalue()
    return text[text.index("<svg") :]


def _spread_chart(dataset: StoredDataset) -> str:
    tasks = sorted(latencies_by_task(dataset.records).values(), key=min)
    if not tasks:
        return ""

    def plot(axis: Any) -> None:
        position = np.concatenate([np.full(len(values), i) for i, values in enumerate(tasks)])
        seconds = np.concatenate([np.array(values) for values in tasks])
        axis.scatter(position, seconds * 1e6, s=3, color="#9db4c8", linewidths=0, rasterized=True)
        best = np.array([min(values) for values in tasks]) * 1e6
        axis.plot(range(len(tasks)), best, color="#d1495b", linewidth=1.4, label="best")
        axis.set_yscale("log")
        axis.set_ylabel("latency, µs")
        axis.set_xlabel("task, by its best")
        axis.locator_params(axis="x", integer=True)
        axis.legend(frameon=False)

    return _draw(plot)


def _origin_chart(dataset: StoredDataset) -> str:
    best = {task: min(values) for task, values in latencies_by_task(dataset.records).items()}
    by_origin: dict[str, list[float]] = {}
    for record in dataset.records:
        if isinstance(record.measurement, Measured):
            ratio = best[record.task] / record.measurement.latency_s
            by_origin.setdefault(record.origin, []).append(ratio)
    if not by_origin:
        return ""

    def plot(axis: Any) -> None:
        for origin, ratios in sorted(by_origin.items(), key=lambda item: -np.median(item[1])):
            share = np.linspace(1, 0, len(ratios))
            axis.plot(np.sort(ratios), share, label=f"{origin} ({len(ratios):,})")
        axis.set_xlabel("best latency of the task / latency of the program")
        axis.set_ylabel("share of programs at least so good")
        axis.set_xlim(0, 1)
        axis.legend(frameon=False)

    return _draw(plot)


def _reference_chart(dataset: StoredDataset) -> str:
    if len(dataset.reference) < 2:
        return ""

    def plot(axis: Any) -> None:
        times, relative = zip(*reference_readings(dataset), strict=True)
        axis.plot(times, relative, ".", markersize=4, color="#2f6690")
        axis.axhline(1, color="#9db4c8", linewidth=0.8)
        axis.set_ylabel("latency / its median")
        axis.tick_params(axis="x", rotation=20)

    return _draw(plot, height=2.4)


def _latency_chart(dataset: StoredDataset) -> str:
    by_task = latencies_by_task(dataset.records)
    if not by_task:
        return ""
    failed = sum(isinstance(record.measurement, Failure) for record in dataset.records)

    def plot(axis: Any) -> None:
        everything = np.log10([s * 1e6 for values in by_task.values() for s in values])
        axis.hist(everything, bins=60, color="#9db4c8", label="programs")
        best = np.log10([min(values) * 1e6 for values in by_task.values()])
        axis.hist(best, bins=60, color="#d1495b", label="best of each task")
        ticks = range(int(np.floor(everything.min())), int(np.ceil(everything.max())) + 1)
        axis.set_xticks(list(ticks), [f"$10^{{{tick}}}$" for tick in ticks])
        axis.set_xlabel(f"latency, µs ({failed:,} programs failed and have none)")
        axis.set_yscale("log")
        axis.legend(frameon=False)

    return _draw(plot)
