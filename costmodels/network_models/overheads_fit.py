"""Fit what a sum of kernels leaves out, on networks or kernels measured on one target."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from costmodels.errors import InputError
from costmodels.kernel import FloatArray, KernelBatch
from costmodels.learning.calibration import NORMAL_REACH
from costmodels.network_models.discrepancy import Discrepancy
from costmodels.network_models.kernel_sums import MeasuredNetwork, add_up, cold_bytes, on_threads
from costmodels.network_models.overheads import (
    DEFAULT_OVERHEADS,
    MIN_RESIDUAL,
    Overheads,
    Parameter,
)
from costmodels.networks.fused_graph import FusedGraph

ROUNDS = 8
"""Of fitting, after which the residual does not change any more."""
NETWORKS_DIFFER, KERNELS_DIFFER = 0.1, 0.2
"""Log of how far the bias on some networks may be from that on others: as fitted on small networks,
and on some of their kernels. Assumed, after a look at 22 networks of timm on a Zen 4 that was left
out of training: of the predicted they took 1.03 times at the median, those that `calibrate`
measures 1.05 times, the kernels of ``--quick`` 1.10 times."""


def fit_overheads(
    networks: Sequence[MeasuredNetwork],
    prior: Overheads | None = DEFAULT_OVERHEADS,
    *,
    threaded: bool = False,
) -> Overheads:
    """Fit what a sum leaves out: by least squares of relative errors, none of it negative.

    Parameters
    ----------
    networks : sequence of MeasuredNetwork
        Of one target, all their kernels measured.
    prior : Overheads, optional
        What launches and cold weights are taken for as far as the networks do not tell: small
        ones have no cold weights.
    threaded : bool
        Whether kernels are scheduled, and so run on all threads where that pays.

    Raises
    ------
    InputError
        When there are fewer than four, or a kernel of one was not measured.
    """
    from scipy.optimize import nnls

    if len(networks) < 4:
        raise InputError(
            f"overheads must be fitted on at least 4 networks, got {len(networks)}: measure more "
            "(the same command goes on)"
        )
    for network in networks:
        missing = network.graph.counts("kernel").keys() - network.measured.keys()
        if missing:
            raise InputError(
                f"every kernel of a network must be measured, got none for {sorted(missing)[0]}"
            )
    total = np.array([network.latency_s for network in networks])
    plain = np.array([add_up(n.graph, n.measured, n.device).total_s for n in networks])
    launches = np.array([sum(n.graph.counts("kernel").values()) for n in networks])
    cold_s = np.array(
        [cold_bytes(n.graph, n.device) / n.device.bandwidth_byte_per_s for n in networks]
    )
    columns = [launches, cold_s]
    if threaded:
        columns.append(np.array([_threaded(network) for network in networks]))
    inputs = np.column_stack(columns) / total[:, None]
    wanted = (total - plain) / total
    known = [] if prior is None else [prior.launch_s, prior.cold_share]
    weights = np.zeros((len(known), len(columns)))
    for place, each in enumerate(known):
        weights[place, place] = 1.0 / each.deviation
    expected = np.array([each.value / each.deviation for each in known])
    residual = MIN_RESIDUAL
    for _ in range(ROUNDS):
        rows = np.vstack([inputs / residual, weights])
        sizes = np.maximum(np.linalg.norm(rows, axis=0), 1e-12)
        values = nnls(rows / sizes, np.concatenate([wanted / residual, expected]))[0] / sizes
        residual = max(MIN_RESIDUAL, float(np.sqrt(np.mean((wanted - inputs @ values) ** 2))))
    gram = (rows / sizes).T @ (rows / sizes) + 1e-9 * np.eye(len(columns))
    deviations = np.sqrt(np.diag(np.linalg.inv(gram))) / sizes
    parameters = [
        Parameter(float(value), float(deviation) if value > 0 else 0.0)
        for value, deviation in zip(values, deviations, strict=True)
    ]
    launch_s, cold_share, threads_s = (*parameters, Parameter())[:3]
    found = Overheads(launch_s, cold_share, threads_s, residual, networks=len(networks))
    predicted = [n for n in networks if n.predicted.keys() >= n.graph.counts("kernel").keys()]
    return _with_errors(found, predicted, NETWORKS_DIFFER) if len(predicted) >= 4 else found


def fit_errors(
    networks: Sequence[MeasuredNetwork], prior: Overheads = DEFAULT_OVERHEADS
) -> Overheads:
    """Fit how far a model is off, on the kernels of some networks alone.

    Parameters
    ----------
    networks : sequence of MeasuredNetwork
        Of one target; those of their kernels count that were both measured and predicted, and the
        latency of the whole does not.
    prior : Overheads
        What launches, cold weights and the residual are taken for.

    Raises
    ------
    InputError
        When fewer than four networks have such kernels.
    """
    sums = [both for network in networks if (both := _known_part(network)) is not None]
    if len(sums) < 4:
        raise InputError(
            f"errors must be fitted on kernels of at least 4 networks, got {len(sums)} of "
            f"{len(networks)} that had any which the model has seconds for and which ran: a table "
            "of some networks knows too few others"
        )
    fitted = _with_errors(Overheads(), sums, KERNELS_DIFFER)
    return replace(
        prior,
        bias=fitted.bias,
        common_error=fitted.common_error,
        device_error=0.0,
        kernels=len({name for each in sums for name in each.measured}),
    )


def fit_bias(
    networks: Sequence[MeasuredNetwork], prior: Overheads = DEFAULT_OVERHEADS
) -> Overheads:
    """Fit how far a model is off, on the latencies of whole networks alone.

    Parameters
    ----------
    networks : sequence of MeasuredNetwork
        Of one target; all their kernels predicted, none need be measured.
    prior : Overheads
        What launches, cold weights and the residual are taken for.

    Raises
    ------
    InputError
        When there are fewer than four.
    """
    if len(networks) < 4:
        raise InputError(f"a bias must be fitted on at least 4 networks, got {len(networks)}")
    fitted = _with_errors(replace(prior, bias=0.0, device_error=0.0), networks, NETWORKS_DIFFER)
    return replace(fitted, networks=len(networks))


def corrected_by_others(
    networks: Sequence[MeasuredNetwork],
    families: Sequence[str],
    batch: KernelBatch,
    places: Mapping[str, int],
) -> tuple[list[MeasuredNetwork], Discrepancy | None]:
    """Correct the predictions of networks by the measured kernels of other families.

    Parameters
    ----------
    networks : sequence of MeasuredNetwork
        Of one device.
    families : sequence of str
        Of each network.
    batch : KernelBatch
        Kernels without a schedule.
    places : mapping
        Name of a kernel, as the networks have it -> place in the batch.

    Returns
    -------
    tuple of list of MeasuredNetwork, and Discrepancy or None
        The latter corrects networks of any other family; without one nothing is corrected.
    """
    errors: dict[str, list[float]] = {}
    deviations: dict[str, float] = {}
    groups: dict[str, frozenset[str]] = {}
    for network, family in zip(networks, families, strict=True):
        for name in network.measured.keys() & network.predicted.keys() & places.keys():
            predicted = network.predicted[name]
            error = math.log(network.measured[name].latency_s / predicted.latency_s)
            errors.setdefault(name, []).append(error)
            deviations[name] = predicted.deviation
            groups[name] = groups.get(name, frozenset()) | {family}
    names = sorted(errors)
    learned = Discrepancy.learn(
        batch.take([places[name] for name in names]),
        np.array([np.mean(errors[name]) for name in names]),
        np.array([deviations[name] for name in names]),
        [groups[name] for name in names],
    )
    if learned is None:
        return list(networks), None
    discrepancy, told = learned
    factors = dict(zip(names, np.exp(told).tolist(), strict=True))
    corrected = [
        replace(
            network,
            predicted={
                name: latency.times(factors.get(name, 1.0), discrepancy.spread)
                for name, latency in network.predicted.items()
            },
        )
        for network in networks
    ]
    return corrected, discrepancy


def _threaded(network: MeasuredNetwork) -> float:
    """How many launches run on several threads."""
    launches = network.graph.counts("kernel").items()
    measured = network.measured
    return sum(
        count * on_threads(measured[name].latency_s, network.device) for name, count in launches
    )


def _known_part(network: MeasuredNetwork) -> MeasuredNetwork | None:
    """The launches whose kernels were measured and predicted, and the sum of these."""
    known = network.measured.keys() & network.predicted.keys()
    launches = tuple(
        replace(each, inputs=())
        for each in network.graph.launches
        if each.kind == "kernel" and each.name in known
    )
    if not launches:
        return None
    graph = FusedGraph(launches)
    measured = {launch.name: network.measured[launch.name] for launch in launches}
    predicted = {launch.name: network.predicted[launch.name] for launch in launches}
    total_s = add_up(graph, measured, network.device).total_s
    return MeasuredNetwork(graph, network.device, total_s, measured, predicted)


def _with_errors(found: Overheads, networks: Sequence[MeasuredNetwork], doubt: float) -> Overheads:
    """Fit bias and correlation: the latter by maximum likelihood of the networks' totals.

    Of a bias as large as the doubt a half is believed: a small one may be of these networks alone,
    a large one is of the device (as a Wiener filter weighs a signal against its noise).
    """

    def errors(overheads: Overheads) -> tuple[FloatArray, FloatArray]:
        totals = [add_up(n.graph, n.predicted, n.device, overheads) for n in networks]
        error = np.array(
            [math.log(n.latency_s / t.total_s) for n, t in zip(networks, totals, strict=True)]
        )
        deviation = np.array([math.log(t.high_s / t.low_s) / (2 * NORMAL_REACH) for t in totals])
        return error, deviation

    bias = float(np.median(errors(found)[0]))
    biased = replace(found, bias=bias**3 / (bias**2 + doubt**2))

    def surprise(correlation: float) -> float:

        error, deviation = errors(replace(biased, common_error=correlation))
        return float(np.sum((error / deviation) ** 2 / 2 + np.log(deviation)))

    from scipy.optimize import minimize_scalar

    best = minimize_scalar(surprise, bounds=(0.0, 1.0), method="bounded")
    return replace(biased, common_error=float(best.x))
