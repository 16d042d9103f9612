"""Networks whose predicted kernels are corrected by what measured kernels tell of a device."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from costmodels.kernel import FloatArray, KernelBatch
from costmodels.learning.device_correction import DeviceCorrection, errors_left
from costmodels.network_models.sum_of_kernels import KernelLatency, MeasuredNetwork, Overheads


def fit_corrected(
    fit: Callable[[Sequence[MeasuredNetwork]], Overheads],
    networks: Sequence[MeasuredNetwork],
    names: Sequence[str],
    batch: KernelBatch,
    *,
    rng: np.random.Generator,
) -> Overheads:
    """Fit overheads and how a model is off on a device: as a whole, and on single kernels.

    Parameters
    ----------
    fit : callable
        `fit_overheads` or `fit_errors`.
    networks, names, batch, rng
        As of `learn_correction`.

    Returns
    -------
    Overheads
        Its errors are those that are left on networks which the correction was not learned from.

    Raises
    ------
    InputError
        What `fit` raises; or no kernel was both measured and predicted.
    """
    bias = fit(networks).bias
    scaled = [_scaled(network, dict.fromkeys(network.predicted, bias)) for network in networks]
    correction, corrected = learn_correction(scaled, names, batch, rng=rng)
    left = fit(corrected)
    return replace(left, bias=bias + left.bias, correction=correction)


def learn_correction(
    networks: Sequence[MeasuredNetwork],
    names: Sequence[str],
    batch: KernelBatch,
    *,
    rng: np.random.Generator,
) -> tuple[DeviceCorrection, list[MeasuredNetwork]]:
    """Learn how a model is off on a device from the kernels of some networks.

    Parameters
    ----------
    networks : sequence of MeasuredNetwork
        Of one device; those of their kernels count that were both measured and predicted.
    names : sequence of str
        Of kernels of the networks.
    batch : KernelBatch
        Their features, in that order, of the schema `costmodels.schema.PER_STORE`.
    rng : numpy.random.Generator
        Draws which networks are judged together.

    Returns
    -------
    DeviceCorrection
        Learned from all of them.
    list of MeasuredNetwork
        Their predictions corrected by what *other* networks tell, so that what is left is how far
        off the model will be on networks to come.

    Raises
    ------
    InputError
        When no kernel was both measured and predicted.
    """
    log_latency = np.full(len(names), np.nan)
    log_error = np.full(len(names), np.nan)
    group = np.zeros(len(names), np.int64)
    for place, name in enumerate(names):
        for number, network in enumerate(networks):
            predicted, measured = network.predicted.get(name), network.measured.get(name)
            if predicted is not None and measured is not None:
                log_latency[place] = np.log(predicted.latency_s)
                log_error[place] = np.log(measured.latency_s / predicted.latency_s)
                group[place] = number
                break
    correction = DeviceCorrection.learn(batch, log_latency, log_error)
    added = log_error - errors_left(batch, log_latency, log_error, rng, groups=group)
    whole = correction.apply(batch, log_latency) - log_latency
    shift = dict(zip(names, np.where(np.isfinite(added), added, whole), strict=True))
    return correction, [_scaled(network, shift) for network in networks]


def corrected_networks(
    networks: Sequence[MeasuredNetwork],
    names: Sequence[str],
    batch: KernelBatch,
    overheads: Overheads,
) -> list[MeasuredNetwork]:
    """Networks whose predictions have the bias and the correction of overheads taken out.

    Parameters
    ----------
    networks, names, batch
        As of `learn_correction`; kernels that are not named are corrected by the bias alone.
    overheads : Overheads
        From `fit_corrected`. What is then to be added up with is the same without the bias.
    """
    scaled = [
        _scaled(network, dict.fromkeys(network.predicted, overheads.bias)) for network in networks
    ]
    if overheads.correction is None:
        return scaled
    latencies = [
        next((n.predicted[name] for n in scaled if name in n.predicted), None) for name in names
    ]
    added = dict(zip(names, log_factors(overheads.correction, batch, latencies), strict=True))
    return [_scaled(network, added) for network in scaled]


def log_factors(
    correction: DeviceCorrection, batch: KernelBatch, latencies: Sequence[KernelLatency | None]
) -> FloatArray:
    """What a correction adds to the log seconds of kernels; 0 for those that are not predicted.

    Returns
    -------
    numpy.ndarray
        float64 [kernels].
    """
    seconds = [
        each.latency_s if each is not None and each.source == "predicted" else np.nan
        for each in latencies
    ]
    log_latency = np.log(np.array(seconds, np.float64))
    return np.nan_to_num(correction.apply(batch, log_latency) - log_latency)


def _scaled(network: MeasuredNetwork, log_factor: Mapping[str, float]) -> MeasuredNetwork:
    """A network whose predicted kernels take longer; those without a known factor stay."""
    factors = {name: math.exp(value) for name, value in log_factor.items() if math.isfinite(value)}
    return replace(
        network,
        predicted={
            name: latency.times(factors.get(name, 1.0))
            for name, latency in network.predicted.items()
        },
    )
