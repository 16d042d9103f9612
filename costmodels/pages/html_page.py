"""Pages to look at: one self-contained HTML file with charts, which needs no network."""

import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

STYLE = """
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


def page(title: str, parts: Sequence[str], *, style: str = "", script: str = "") -> str:
    """Put a page together.

    Parameters
    ----------
    title : str
        Of the window.
    parts : sequence of str
        HTML, in order.
    style, script : str
        CSS and JavaScript that this page needs beside the common style.
    """
    body = "\n".join(parts)
    end = f"<script>{script}</script>\n" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body>\n{body}\n{end}</body></html>\n"
    )


def key_figures(figures: Mapping[str, str]) -> str:
    """Name -> figure, as HTML, in boxes side by side."""
    boxes = (f"<div><dt>{html.escape(k)}</dt><dd>{v}</dd></div>" for k, v in figures.items())
    return "\n".join(["<dl>", *boxes, "</dl>"])


def svg(plot: Callable[[Any], None], *, height: float = 3.2) -> str:
    """Draw a chart of matplotlib.

    Parameters
    ----------
    plot : callable
        Given the axes to draw on.
    height : float
        In inches; the width is that of the page.
    """
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
