"""Why a kernel takes as long as predicted: the terms of the Halide-style model, by stage."""

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodels.checks import require_type
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.features.kernel_graph import StagedGraph
from costmodels.files import write_atomically
from costmodels.installed import require_package
from costmodels.kernel import KernelBatch, Task
from costmodels.load_model import load_kernel_model
from halide_style.model import HalideStyleModel
from halide_style.terms import TERMS
from tvm_integration.compat import MeasureCandidate, Schedule, Target, meta_schedule
from tvm_integration.compile.fusion import FusedTask, fuse
from tvm_integration.compile.vector_math import with_vector_math
from tvm_integration.frontends.load import load_network, require_network
from tvm_integration.identity import task_key
from tvm_integration.records.database import has_database, open_database, replay
from tvm_integration.targets import as_target, device_of
from tvm_integration.tir.features import FeatureExtractor
from tvm_integration.tune.folder import has_vector_kernels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHART_ENDINGS = (".png", ".svg", ".pdf")
SHOWN_TERMS = 8
"""Terms with a color of their own in the chart; the others are drawn as one."""


@dataclass(frozen=True)
class StageTerms:
    """One stage of a program.

    Attributes
    ----------
    operators : tuple of str
        Opcodes of what it computes.
    seconds, coefficients : dict
        Term -> what it adds, and how much the model lets it count; the largest first.
    """

    operators: tuple[str, ...]
    seconds: dict[str, float]
    coefficients: dict[str, float]

    @property
    def total_s(self) -> float:
        """Sum of its terms."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Explanation:
    """A kernel's predicted seconds and what they are made of.

    Attributes
    ----------
    kernel : str
        Its name.
    schedule : str
        Which of its programs: ``"default"`` or ``"best measured"``.
    latency_s, low_s, high_s : float
        Predicted; the interval holds 90 % of kernels.
    stages : tuple of StageTerms
        Their seconds add up to `latency_s`.
    kernels : int
        Of its network, this one included.
    """

    kernel: str
    schedule: str
    latency_s: float
    low_s: float
    high_s: float
    stages: tuple[StageTerms, ...]
    kernels: int = 1

    def as_json(self) -> dict[str, Any]:
        """The document that ``costmodels explain --json`` prints."""
        return {
            "kernel": self.kernel,
            "schedule": self.schedule,
            "latency_s": self.latency_s,
            "low_s": self.low_s,
            "high_s": self.high_s,
            "stages": [
                {
                    "operators": list(stage.operators),
                    "seconds": stage.seconds,
                    "coefficients": stage.coefficients,
                }
                for stage in self.stages
            ],
        }

    def figure(self) -> "Figure":
        """Draw the terms of each stage as a bar.

        Returns
        -------
        matplotlib.figure.Figure
            To look at in a notebook, or to save.
        """
        return _figure(self)


def find_kernel(tasks: Sequence[FusedTask], wanted: str | None) -> FusedTask:
    """The kernel that a user means: by a part of its name, or the one with most operations.

    Raises
    ------
    InputError
        When none has that part in its name.
    """
    if not tasks:
        raise InputError("the network must have a kernel that can be scheduled, got none")
    if wanted is None:
        return max(tasks, key=lambda task: task.flop * task.weight)
    found = [task for task in tasks if wanted in task.name]
    exact = [task for task in found if task.name == wanted]
    if not found:
        names = ", ".join(task.name for task in tasks)
        raise InputError(
            f"kernel must be a part of a kernel's name, got {wanted!r}; there are {names}"
        )
    return (exact or found)[0]


def explain_kernel(
    network: str,
    kernel: str | None = None,
    target: str | Target = "host",
    cost_model: str | os.PathLike[str] = "pretrained:halide",
    *,
    work_dir: str | os.PathLike[str] | None = None,
) -> Explanation:
    """Say why a kernel of a network takes as long as predicted; nothing is run.

    Parameters
    ----------
    network : str
        As `costmodels explain` takes it.
    kernel : str, optional
        A part of the kernel's name; by default the one with most operations.
    target : str or Target
        What it is for.
    cost_model : str or path
        A trained Halide-style model.
    work_dir : str or path, optional
        Explain the best program of this tuning run instead of the default one.

    Returns
    -------
    Explanation
        Its predicted seconds, the terms that they are made of, and how many kernels there are.

    Raises
    ------
    InputError
        When the network cannot be imported, no kernel has such a name, the model is another, or the
        folder has no program of the kernel.
    """
    require_network(network, str)
    require_type("kernel", kernel, str | None)
    parsed = as_target(target)
    fused = fuse(load_network(network).module, parsed)  # as `tune` does, so that its records fit
    if work_dir is not None and has_vector_kernels(Path(work_dir)):
        fused = with_vector_math(fused)
    found = explain_task(
        find_kernel(fused.tasks, kernel),
        parsed,
        device_of(parsed),
        model=os.fspath(cost_model),
        work_dir=None if work_dir is None else Path(work_dir),
    )
    return replace(found, kernels=len(fused.tasks))


def explain_task(
    task: FusedTask, target: Target, device: Device, *, model: str, work_dir: Path | None = None
) -> Explanation:
    """Predict a kernel and say what the seconds are made of.

    Parameters
    ----------
    task : FusedTask
        The kernel.
    target : Target
        What it is for.
    device : Device
        What it runs on.
    model : str
        A trained Halide-style model: ``pretrained:halide``, or a checkpoint.
    work_dir : Path, optional
        Explain the best program of this tuning run instead of the unscheduled one.

    Raises
    ------
    InputError
        When the model is another, or the folder has no program of the kernel.
    """
    found = load_kernel_model(model, seed=0)
    if not isinstance(found, HalideStyleModel):
        raise InputError(
            f"the model to explain must be a Halide-style one, got {found.name!r}: take "
            "pretrained:halide, or a checkpoint of `costmodels train --cost-model halide`"
        )
    schedule = Schedule(task.mod) if work_dir is None else _best(task, work_dir)
    context = meta_schedule.TuneContext(task.mod, target=target, num_threads=1)
    batch = FeatureExtractor().extract(
        context,
        [MeasureCandidate(schedule, [])],
        Task(task_key(task.mod, target), device),
        graphs=True,
    )
    table = found.explain(batch)
    prediction = found.predict(batch)
    assert prediction.latency_s is not None
    assert prediction.low_s is not None
    assert prediction.high_s is not None
    return Explanation(
        kernel=task.name,
        schedule="default" if work_dir is None else "best measured",
        latency_s=float(prediction.latency_s[0]),
        low_s=float(prediction.low_s[0]),
        high_s=float(prediction.high_s[0]),
        stages=tuple(
            _stage(_operators(batch, row), table.seconds[row], table.coefficients[row])
            for row in range(len(batch.rows))
        ),
    )


def _best(task: FusedTask, work_dir: Path) -> Schedule:
    if not has_database(work_dir):
        raise InputError(f"{work_dir} must be the work directory of a tuning run, got none")
    database = open_database(work_dir, read_only=True)
    if database.has_workload(task.mod):
        workload = database.commit_workload(task.mod)
        for _, candidate in replay(database.get_top_k(workload, 1)):
            if candidate is not None:
                return candidate.sch
    raise InputError(f"{work_dir} must hold a program of {task.name}, got none: tune it first")


def _operators(batch: KernelBatch, row: int) -> tuple[str, ...]:
    assert batch.graph_index is not None
    staged: StagedGraph = batch.graphs[batch.graph_index[0]]
    names = [staged.graph.operators[node].opcode for node, at in staged.stages if at == row]
    return tuple(dict.fromkeys(name for name in names if name != "parameter"))


def _stage(operators: tuple[str, ...], seconds: np.ndarray, coefficients: np.ndarray) -> StageTerms:
    order = [int(term) for term in np.argsort(-seconds) if seconds[term] > 0]
    return StageTerms(
        operators,
        {TERMS[term].name: float(seconds[term]) for term in order},
        {TERMS[term].name: float(coefficients[term]) for term in order},
    )


def draw(explanation: Explanation, path: Path) -> None:
    """Draw the terms of each stage as a bar, into a file.

    Parameters
    ----------
    explanation : Explanation
        What to draw.
    path : Path
        A file that ends in .png, .svg or .pdf.

    Raises
    ------
    InputError
        When it ends otherwise.
    """
    if path.suffix not in CHART_ENDINGS:
        raise InputError(f"a chart must end in {', '.join(CHART_ENDINGS)}, got {path.name!r}")
    held = io.BytesIO()
    explanation.figure().savefig(held, format=path.suffix[1:], dpi=150)
    write_atomically(path, held.getvalue())


def _figure(explanation: Explanation) -> "Figure":
    require_package("matplotlib", "charts", "a chart")
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    totals: dict[str, float] = {}
    for stage in explanation.stages:
        for name, value in stage.seconds.items():
            totals[name] = totals.get(name, 0.0) + value
    largest = sorted(totals, key=lambda name: -totals[name])[:SHOWN_TERMS]
    labels = [
        f"{number}: {', '.join(stage.operators) or 'stage'}"
        for number, stage in enumerate(explanation.stages, 1)
    ]
    figure = Figure(figsize=(9, 1.6 + 0.45 * len(labels)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(labels))
    colors = colormaps["tab10"]
    for number, name in enumerate([*largest, "others"]):
        values = np.array(
            [
                stage.seconds.get(name, 0.0)
                if name != "others"
                else sum(v for term, v in stage.seconds.items() if term not in largest)
                for stage in explanation.stages
            ]
        )
        color = "lightgrey" if name == "others" else colors(number)
        axes.barh(labels, values, left=left, label=name.replace("_", " "), color=color)
        left += values
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.set_xlabel("predicted time")
    axes.set_title(f"{explanation.kernel}, {explanation.schedule} program", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    # Bars end anywhere within the axes.
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
