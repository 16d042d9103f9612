"""Pages to look at: each one self-contained HTML file, with its charts, that needs no network."""

import io
from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from costmodels.installed import require_package

__all__ = ["render", "svg"]

_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
"""Keeps the page the same for the same data, and free of links."""


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("costmodels.pages"),
        autoescape=True,  # names of networks, kernels and layers are the user's
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def render(template: str, **values: Any) -> str:
    """Fill in a template.

    Parameters
    ----------
    template : str
        Name of a file in ``costmodels/pages/templates``.
    **values : Any
        What it names; text is escaped, `Markup` is not.

    Returns
    -------
    str
        HTML.
    """
    return _environment().get_template(template).render(**values)


def svg(plot: Callable[[Any], None], *, height: float = 3.2) -> Markup:
    """Draw a chart of matplotlib.

    Parameters
    ----------
    plot : callable
        Given the axes to draw on.
    height : float
        In inches; the width is that of the page.

    Returns
    -------
    Markup
        An ``svg`` element.
    """
    require_package("matplotlib", "charts", "a chart")
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
    return Markup(text[text.index("<svg") :])
