"""Fit what further trials of a kernel gain, and compare schedulers on the same tuning curves.

    python scripts/fit_expected_gain.py shipped:tuned_networks

Nothing runs: data sets of `costmodels collect --networks --trials-each N` have the programs of each
kernel in the order in which they were tried.
"""

import argparse
from collections.abc import Callable, Sequence

import numpy as np
from train_tuned_latency import tuned_kernels, tuned_networks

from costmodels.kernel import FloatArray
from costmodels.tuned_latency.gain import POWER, SPREAD, WHOLE, further_gain, log_gain
from costmodels.tuned_latency.kernels import TunedKernel
from costmodels.tuned_latency.networks import TunedNetwork, kernels_of

BATCH = 16
FEWEST = 4
"""Kernels whose gains make a mean."""
RECENT_BATCHES, RECENT_SHARE = 3, 0.2
"""Of Ansor (Zheng et al., OSDI 2020)."""
BUDGETS = (1.0, 1.5, 2.0, 3.0)
"""Batches of a kernel that was searched, on average."""

Curve = Sequence[float]
"""Best latency after each batch; the last for ever."""


def fit(kernels: Sequence[TunedKernel]) -> None:
    """Print what doublings gained, the law that fits, and that of the package."""
    from scipy.optimize import curve_fit

    counts = [2**power for power in range(1, 12)]
    found = {trials: gains for trials in counts if len(gains := _gains(kernels, trials)) >= FEWEST}
    means = [np.mean(gains) for gains in found.values()]

    def law(trials: FloatArray, whole: float, power: float) -> FloatArray:
        gains: FloatArray = whole * (trials**-power - (2 * trials) ** -power)
        return gains

    (whole, power), _ = curve_fit(
        law,
        np.array(list(found), float),
        means,
        (0.5, 0.3),
        [np.std(gains) / np.sqrt(len(gains)) for gains in found.values()],
        bounds=(0, 10.0),
    )
    print("| trials | kernels | gain of as many again (log) | 90 % below | fitted | package |")
    print("|---|---|---|---|---|---|")
    for trials, gains in found.items():
        print(
            f"| {trials} | {len(gains)} | {np.mean(gains):.3f} | {np.quantile(gains, 0.9):.3f} "
            f"| {law(np.array(float(trials)), whole, power):.3f} | {log_gain(trials, trials):.3f} |"
        )
    spread = np.median([np.std(gains) / np.mean(gains) for gains in found.values()])
    print(
        f"\nfitted: WHOLE {whole:.3f}, POWER {power:.3f}, SPREAD {spread:.2f}; package: "
        f"{WHOLE}, {POWER}, {SPREAD}\n"
    )


def _gains(kernels: Sequence[TunedKernel], trials: int) -> list[float]:
    """Logs of what as many trials again gained."""
    gains = []
    for kernel in kernels:
        if len(kernel.run_s) >= 2 * trials:
            best = np.minimum.accumulate(kernel.run_s)
            if np.isfinite(best[trials - 1]):
                gains.append(float(np.log(best[trials - 1] / best[2 * trials - 1])))
    return gains


def by_law(best_s: float, batches: int, history: Curve) -> float:
    """Seconds that the next batch is expected to save."""
    del history
    return best_s * further_gain(batches * BATCH, BATCH)


def by_ansor(best_s: float, batches: int, history: Curve) -> float:
    """The gradient of Ansor, which guesses that a batch may save a share of 1 / (batches + 1)."""
    recent = history[max(0, batches - 1 - RECENT_BATCHES) : batches]
    gain = (recent[0] - recent[-1]) / (len(recent) - 1) if len(recent) > 1 else 0.0
    return RECENT_SHARE * gain + (1 - RECENT_SHARE) * best_s / (batches + 1)


def by_turns(best_s: float, batches: int, history: Curve) -> float:
    """Each kernel as often as any other."""
    del best_s, history
    return -float(batches)


def scheduled(
    network: TunedNetwork, budget: float, promise: Callable[[float, int, Curve], float]
) -> float:
    """Latency of the searched kernels of a network, over what the whole search leaves of it."""
    counts = network.graph.counts("kernel")
    curves, weights = [], []
    for name, kernel in network.kernels.items():
        if len(kernel.run_s) >= network.trials:
            best = np.minimum.accumulate(kernel.run_s)
            curve = [float(best[end - 1]) for end in range(BATCH, len(best) + 1, BATCH)]
            if np.isfinite(curve[0]):
                curves.append(curve)
                weights.append(counts[name])
    batches = [1] * len(curves)
    for _ in range(round(budget * len(curves)) - len(curves)):
        alive = [i for i, curve in enumerate(curves) if batches[i] < len(curve)]
        if not alive:
            break
        chosen = max(
            alive,
            key=lambda i: (
                weights[i] * promise(curves[i][batches[i] - 1], batches[i], curves[i])
                if promise is not by_turns
                else -batches[i]
            ),
        )
        batches[chosen] += 1
    now_s = sum(w * c[b - 1] for w, c, b in zip(weights, curves, batches, strict=True))
    return now_s / sum(w * c[-1] for w, c in zip(weights, curves, strict=True))


def compare(networks: Sequence[TunedNetwork]) -> None:
    """Print how far from the whole search each scheduler leaves the networks."""
    schedulers = {"expected gain": by_law, "Ansor's gradient": by_ansor, "in turn": by_turns}
    print("| batches of 16 a kernel | " + " | ".join(schedulers) + " |")
    print("|---|" + "---|" * len(schedulers))
    for budget in BUDGETS:
        cells = []
        for promise in schedulers.values():
            found = [scheduled(network, budget, promise) for network in networks]
            cells.append(f"{np.exp(np.mean(np.log(found))):.3f}")
        print(f"| {budget:g} | " + " | ".join(cells) + " |")


def main() -> None:
    """Fit, then compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", help="folders, or shipped:NAME")
    options = parser.parse_args()
    networks = [network for path in options.datasets for network in tuned_networks(path)]
    curves = [kernel for path in options.datasets for kernel in tuned_kernels(path)]
    fit(kernels_of(networks, curves))
    compare(networks)


if __name__ == "__main__":
    main()
