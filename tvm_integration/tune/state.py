"""What a user asks of a tuning run, how far it has come, and what it gave."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from costmodels.checks import check_fields, check_seed
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.tuned_latency.gain import Gain
from tvm_integration.compile.build import BuiltNetwork, UntunableKernel
from tvm_integration.tune.candidate_scores import RoundReport

_MAX_COUNT = 2**31 - 1
"""TVM's integers have 32 bits."""
SEARCHES = ("sketch", "evolution")
NO_GAIN = 0.01
"""Share of the network's latency: what is not worth as many trials again."""
UNLIMITED = _MAX_COUNT
"""Of `TuneOptions.trials`, where something else ends a run."""
NOISY = 1.5
"""Readings of one network that differ by more than this factor were disturbed by other work."""


@dataclass(frozen=True)
class TuneOptions:
    """What a user can choose.

    Parameters
    ----------
    work_dir : Path, optional
        Database, checkpoint and log of the run; by default a folder of the network's name in
        ``costmodels_work``.
    trials : int
        Candidates to measure in all, those of earlier runs in `work_dir` included. With 0 the model
        alone chooses, and no kernel is measured.
    trials_each : int, optional
        Instead of `trials`: of each kernel that takes more than 1 % of the network.
    minutes : float, optional
        Time after which no further batch is begun.
    trials_per_iter : int
        Candidates of one batch at most: fewer where kernels would otherwise go without.
    cost_model : str, optional
        A registered name, ``pretrained:NAME``, a checkpoint file, or ``stock``. By default
        ``pretrained:gbt``, and ``gbt``, which begins with nothing, on GPUs.
    seed : int
        For the search and a new model.
    tasks : str, optional
        A number: only so many kernels, those with the largest share of the untuned network.
        Otherwise parts of kernel names, separated by commas.
    device : Device, optional
        What the target runs on, where it cannot be detected.
    library : bool
        Begin with the best known schedules of the same and of similar kernels, and add to them.
    search : str
        One of `SEARCHES`: ``"sketch"``, this project's, or ``"evolution"``, TVM's.
    check : bool
        Compare what the untuned network computes with its own framework before tuning.
    vector_math : bool
        Compute exp, erf, tanh and sigmoid by vector arithmetic; see `compile.vector_math`.
    until_no_gain : bool
        End as soon as twice the trials would shorten the network by less than 1 %, with a
        probability of 90 %; `trials` are the most then.
    """

    work_dir: Path | None = None
    trials: int = 512
    trials_each: int | None = None
    minutes: float | None = None
    trials_per_iter: int = 32
    cost_model: str | None = None
    seed: int = 0
    tasks: str | None = None
    device: Device | None = None
    library: bool = True
    search: str = "sketch"
    check: bool = True
    vector_math: bool = True
    until_no_gain: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        counts = (("trials", self.trials, 0), ("trials_per_iter", self.trials_per_iter, 1))
        for name, count, least in counts:
            if not least <= count <= _MAX_COUNT:
                raise InputError(f"{name} must be in {least} ... {_MAX_COUNT}, got {count}")
        if self.trials_each is not None and not 1 <= self.trials_each <= _MAX_COUNT:
            raise InputError(
                f"trials_each must be in 1 ... {_MAX_COUNT}, got {self.trials_each}: the model "
                "alone chooses with trials=0"
            )
        if self.trials_each is not None and not self.trials:
            raise InputError(
                f"trials must not be 0 with trials_each, got {self.trials_each} of these: with 0 "
                "nothing is measured; leave one of them out"
            )
        if self.until_no_gain and (self.trials_each is not None or not self.trials):
            got = f"trials_each={self.trials_each}" if self.trials else "trials=0"
            raise InputError(
                "until_no_gain must be given without trials_each and with trials above 0, got "
                f"{got}"
            )
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"minutes must be positive, got {self.minutes}")
        check_seed(self.seed)
        if self.search not in SEARCHES:
            raise InputError(f"search must be one of {', '.join(SEARCHES)}, got {self.search!r}")
        if task_count(self.tasks) == 0:
            raise InputError(f"tasks must be at least 1, got {self.tasks}")

    @property
    def folder(self) -> Path:
        """The work directory, once it is chosen."""
        assert self.work_dir is not None
        return self.work_dir


def task_count(tasks: str | None) -> int | None:
    """How many kernels `TuneOptions.tasks` asks for; None when it names some, or is not given."""
    text = (tasks or "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


@dataclass(frozen=True)
class KernelState:
    """A kernel during and after tuning.

    Parameters
    ----------
    name : str
        TVM's name for it.
    weight : int
        Calls in one run of the network.
    untuned_s : float, optional
        Latency of its unscheduled program in seconds; None when that failed or took too long.
    selected : bool
        Whether it is tuned at all.
    trials : int
        Candidates measured, those of earlier runs included.
    failures : int
        Of these, how many failed.
    best_s : float, optional
        Best latency of a tuned program in seconds.
    predicted_s : float, optional
        Of the program that the model chose without measuring.
    """

    name: str
    weight: int
    untuned_s: float | None
    selected: bool
    trials: int = 0
    failures: int = 0
    best_s: float | None = None
    predicted_s: float | None = None

    @property
    def used_s(self) -> float | None:
        """Latency of the program that the build uses: the faster one."""
        known = [value for value in (self.best_s, self.untuned_s) if value is not None]
        return min(known) if known else None

    @property
    def total_s(self) -> float | None:
        """Its part of the network's latency."""
        return None if self.used_s is None else self.weight * self.used_s

    @property
    def shown_s(self) -> float | None:
        """Its part as far as it is known: predicted where nothing is measured."""
        if self.total_s is None and self.predicted_s is not None:
            return self.weight * self.predicted_s
        return self.total_s


@dataclass(frozen=True)
class TuneState:
    """How far tuning has come.

    Parameters
    ----------
    stage : str
        What is being done.
    kernels : tuple of KernelState
        In the order of their first call.
    trials, trials_wanted : int
        Candidates measured, and asked for.
    elapsed_s : float
        Since the first batch of this run.
    trials_before : int
        Candidates of earlier runs among `trials`.
    limit_s : float, optional
        Time after which no batch is begun.
    reports : tuple of RoundReport
        How well the model predicted each batch of this run before it learned it.
    unit : str
        What `trials` counts: without trials it is kernels.
    gain : Gain, optional
        What twice the trials would save, as far as that is known.
    """

    stage: str
    kernels: tuple[KernelState, ...] = ()
    trials: int = 0
    trials_wanted: int = 0
    elapsed_s: float = 0.0
    trials_before: int = 0
    limit_s: float | None = None
    reports: tuple[RoundReport, ...] = ()
    unit: str = "trials"
    gain: Gain | None = None

    @property
    def eta_s(self) -> float | None:
        """Expected time until the last batch, in seconds; None before there is a rate."""
        found = [left for left in (self._trials_left_s, self._limit_left_s) if left is not None]
        return min(found, default=None)

    @property
    def ends_by_limit(self) -> bool:
        """Whether the time limit will come before the last trial, as far as is known."""
        limit, trials = self._limit_left_s, self._trials_left_s
        return limit is not None and (trials is None or limit < trials)

    @property
    def _limit_left_s(self) -> float | None:
        return None if self.limit_s is None else max(self.limit_s - self.elapsed_s, 0.0)

    @property
    def _trials_left_s(self) -> float | None:
        done = self.trials - self.trials_before
        if done <= 0 or self.elapsed_s <= 0:
            return None
        return self.elapsed_s / done * max(self.trials_wanted - self.trials, 0)


@dataclass(frozen=True)
class TuneResult:
    """What tuning gave.

    Parameters
    ----------
    untuned_s, tuned_s : float, optional
        Latency of the whole network in seconds, medians of runs in turn; None when not measured.
    reference_s : float, optional
        Of the network in its own framework, likewise.
    one_thread_s : float, optional
        Of the tuned network on one thread, where on several it takes far longer than its kernels.
    threads : int, optional
        That all of these ran on.
    ranges_s : mapping
        ``"untuned"``, ``"tuned"``, ``"reference"`` -> least and most of their readings.
    reference_kind : str, optional
        ``"torch"`` or ``"onnxruntime"``.
    reference_threads : int, optional
        On how many threads that was: one where it is faster so.
    outputs_match : bool, optional
        Whether the tuned network computes what the reference computes; None without reference.
    outputs_note : str
        What does not match, or why nothing was compared.
    kernels : tuple of KernelState
        In the order of their first call.
    trials : int
        Candidates measured, those of earlier runs included.
    trials_wanted : int
        What was asked for.
    trials_before : int
        Candidates of earlier runs among `trials`.
    trials_by_model : int, optional
        Candidates of this run that a fitted model chose; None for TVM's own model.
    untunable : tuple of UntunableKernel
        Parts that no schedule can change.
    wall_s : float
        Time of the whole command.
    interrupted : bool
        Whether Ctrl-C ended it: then the network was not built and measured.
    ended_by_limit : bool
        Whether the time limit was over before the trials were.
    gain : Gain, optional
        What twice the trials would save; None where nothing was measured.
    """

    kernels: tuple[KernelState, ...]
    trials: int
    untunable: tuple[UntunableKernel, ...]
    wall_s: float
    trials_wanted: int = 0
    trials_before: int = 0
    trials_by_model: int | None = None
    untuned_s: float | None = None
    tuned_s: float | None = None
    reference_s: float | None = None
    one_thread_s: float | None = None
    threads: int | None = None
    ranges_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    reference_kind: str | None = None
    reference_threads: int | None = None
    outputs_match: bool | None = None
    outputs_note: str = ""
    interrupted: bool = False
    ended_by_limit: bool = False
    gain: Gain | None = None
    built: BuiltNetwork | None = field(default=None, repr=False)

    @property
    def sum_of_kernels_s(self) -> float | None:
        """Calls x latency, summed; None when the latency of a kernel is unknown."""
        totals = [kernel.total_s for kernel in self.kernels]
        return None if None in totals else sum(t for t in totals if t is not None)

    @property
    def disturbed(self) -> list[str]:
        """Those of `ranges_s` whose readings differ by more than `NOISY`."""
        return [name for name, (least, most) in self.ranges_s.items() if most > NOISY * least]

    def as_json(self) -> dict[str, Any]:
        """The document of ``costmodels tune --json``."""
        return {
            "untuned_s": self.untuned_s,
            "tuned_s": self.tuned_s,
            "reference_s": self.reference_s,
            "one_thread_s": self.one_thread_s,
            "threads": self.threads,
            "reference": self.reference_kind,
            "reference_threads": self.reference_threads,
            "ranges_s": {name: list(each) for name, each in self.ranges_s.items()},
            "disturbed": self.disturbed,
            "sum_of_kernels_s": self.sum_of_kernels_s,
            "outputs_match": self.outputs_match,
            "outputs_note": self.outputs_note,
            "wall_s": self.wall_s,
            "trials": self.trials,
            "trials_before": self.trials_before,
            "trials_by_model": self.trials_by_model,
            "interrupted": self.interrupted,
            "ended_by_limit": self.ended_by_limit,
            "twice_the_trials_save": None if self.gain is None else asdict(self.gain),
            "kernels": [
                {
                    "name": kernel.name,
                    "weight": kernel.weight,
                    "trials": kernel.trials,
                    "failures": kernel.failures,
                    "untuned_s": kernel.untuned_s,
                    "best_s": kernel.best_s,
                    "predicted_s": kernel.predicted_s,
                }
                for kernel in self.kernels
            ],
            "untunable": [
                {"name": part.name, "weight": part.weight, "reason": part.reason}
                for part in self.untunable
            ],
        }
