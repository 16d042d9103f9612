"""How far estimates are off on networks of families that a model never saw.

Overheads are fitted on networks whose like the model has learned, which tell too little of the
others. So models are trained with some families left out, and the factor on the deviation of their
predictions is the one with which intervals hold as often as they say on those families (the idea of
Vovk, "Cross-Conformal Predictors", 2015). It goes with the target and with how kernels were
scheduled.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.json_text import from_values, json_text
from costmodels.learning.calibration import COVERAGE, NORMAL_REACH, quantile_of_groups
from costmodels.network_models.kernel_sums import MeasuredNetwork, add_up
from costmodels.network_models.overheads import Overheads
from costmodels.pretrained import is_pretrained, pretrained_folder, pretrained_path

FACTORS = "unseen_families.json"
"""Beside the pretrained models: how far each is off on networks of families that it never saw."""


def factor_that_holds(network: MeasuredNetwork, overheads: Overheads) -> float:
    """The least `Overheads.unseen_factor` with which the interval holds what was measured.

    Parameters
    ----------
    network : MeasuredNetwork
        All its kernels predicted, by a model with intervals.
    overheads : Overheads
        Fitted on other networks.

    Returns
    -------
    float
        0 where what else is uncertain explains the error; infinite where predictions are said to
        be exact and it does not.
    """

    def total_and_variance(factor: float) -> tuple[float, float]:
        given = replace(overheads, unseen_factor=factor)
        total = add_up(network.graph, network.predicted, network.device, given)
        deviation = math.log(total.high_s / total.low_s) / (2 * NORMAL_REACH)
        return total.total_s, math.expm1(deviation**2)

    total_s, rest = total_and_variance(0.0)
    predicted = total_and_variance(1.0)[1] - rest
    error = math.log(network.latency_s / total_s)
    missing = math.expm1((error / NORMAL_REACH) ** 2) - rest
    if missing <= 0:
        return 0.0
    return math.sqrt(missing / predicted) if predicted > 0 else math.inf


def factor_of_all(factors: Sequence[float], families: Sequence[str]) -> float:
    """The factor with which the intervals of 90 % of the networks hold, all families alike.

    With n networks it is the quantile at (n + 1) / n of that, to keep the promise for one more.

    Parameters
    ----------
    factors : sequence of float
        Of each network, as of `factor_that_holds`.
    families : sequence of str
        Of each network.

    Raises
    ------
    InputError
        When there is none.
    """
    if not factors:
        raise InputError("a factor must be learned from some networks, got none")
    share = COVERAGE * (len(factors) + 1) / len(factors)
    return quantile_of_groups(np.array(factors), np.array(families), share)


def coverage_left_out(factors: Sequence[float], families: Sequence[str]) -> float:
    """Share of networks that intervals hold with the factor of all families but their own.

    Parameters
    ----------
    factors, families
        As of `factor_of_all`; of at least two families, which count the same.
    """
    needed, family = np.array(factors), np.array(families)
    held = []
    for own in sorted(set(families)):
        others = family != own
        factor = factor_of_all(needed[others].tolist(), family[others].tolist())
        held.append(float(np.mean(needed[~others] <= factor)))
    return float(np.mean(held))


@dataclass(frozen=True, slots=True)
class UnseenFamilies:
    """The factor of a model on one target, with one kind of schedules.

    Parameters
    ----------
    cores, vector_bits : int
        Of the target.
    schedules : str
        ``"default"`` or ``"model"``.
    factor : float
        See `Overheads.unseen_factor`.
    networks : int
        How many it was learned from.
    coverage : float
        See `coverage_left_out`.
    """

    cores: int
    vector_bits: int
    schedules: str
    factor: float
    networks: int
    coverage: float


def unseen_factor(known: Iterable[UnseenFamilies], device: Device, schedules: str) -> float:
    """The factor for a device: its own, or the largest where it is another, but no less than 1.

    Parameters
    ----------
    known : iterable of UnseenFamilies
        Of one model; without any the factor is 1.
    device : Device
        What the network runs on.
    schedules : str
        ``"default"`` or ``"model"``.
    """
    likewise = [each for each in known if each.schedules == schedules]
    for each in likewise:
        if (each.cores, each.vector_bits) == (device.cores, device.vector_bits):
            return each.factor
    return max((1.0, *(each.factor for each in likewise)))


def write_factors(path: Path, models: Mapping[str, Sequence[UnseenFamilies]]) -> None:
    """Write the factors of models, by the models' names, as JSON."""
    content = {name: [asdict(each) for each in known] for name, known in models.items()}
    write_atomically(path, json_text(content).encode())


def read_factors(path: Path) -> dict[str, tuple[UnseenFamilies, ...]]:
    """Undo `write_factors`."""
    content = json.loads(path.read_text())
    return {
        name: from_values(tuple[UnseenFamilies, ...], known, f"factors of {name}")
        for name, known in content.items()
    }


def pretrained_factors(model: str) -> tuple[UnseenFamilies, ...]:
    """How far a model is off on networks of unseen families; nothing of models of the user."""
    if not is_pretrained(model):
        return ()
    return read_factors(pretrained_folder() / FACTORS).get(pretrained_path(model).stem, ())
