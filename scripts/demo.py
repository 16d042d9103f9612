"""Tune a small real network in a few minutes; estimate and measure it before and after."""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tvm_integration.cli.tune import WIDTH_OF_FILES

if TYPE_CHECKING:
    from tvm_integration.estimate.result import Estimate

NETWORK = "zoo:vit_tiny"
MODEL = "pretrained:best"
TRIALS, BATCH, MINUTES = 640, 16, 3.5


def beside(estimate: "Estimate", measured_s: float | None) -> str:
    """An estimate and the measurement of the same."""
    from tvm_integration.cli.formatting import seconds_text

    total = estimate.total
    assert total is not None, f"not all kernels are known: {estimate.unsupported}"
    return (
        f"estimated {seconds_text(total.total_s)} (90 % interval {seconds_text(total.low_s)} to "
        f"{seconds_text(total.high_s)}), measured {seconds_text(measured_s)}"
    )


def main() -> None:
    """Do what `costmodels estimate`, `tune` and `estimate` again do."""
    from costmodels.load_model import load_kernel_model
    from tvm_integration.cli.tune_display import live_display, print_result
    from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
    from tvm_integration.estimate.network_features import describe_network
    from tvm_integration.frontends.load import load_network
    from tvm_integration.targets import device_of, host_target
    from tvm_integration.tune.session import tune_network
    from tvm_integration.tune.state import TuneOptions

    console, progress = (Console(stderr=err, highlight=False) for err in (False, True))
    for each in (console, progress):
        if not each.is_terminal:
            each.width = WIDTH_OF_FILES
    target, model = host_target(), load_kernel_model(MODEL, seed=0)
    device = device_of(target)

    def estimated(schedules: str, work_dir: Path | None = None, trials: int = 1) -> "Estimate":
        options = EstimateOptions(schedules, work_dir, trials=trials)
        return estimate_network(network, target, device, model, options, model_name=MODEL)

    console.print(f"costmodels estimate {NETWORK}")
    network = describe_network(NETWORK, target)
    before = estimated("default")
    trials_each = TRIALS // len(before.kernels)
    told = estimated("tuned", trials=trials_each)
    with tempfile.TemporaryDirectory(prefix="costmodels-demo-") as folder:
        work_dir = Path(folder)
        console.print(
            f"costmodels tune {NETWORK} --trials {TRIALS} --trials-per-iter {BATCH} "
            f"--minutes {MINUTES} --work-dir {work_dir}"
        )
        tuning = TuneOptions(work_dir, TRIALS, minutes=MINUTES, trials_per_iter=BATCH)
        with live_display(progress) as on_state:
            result = tune_network(load_network(NETWORK), target, tuning, on_state)
        if result.interrupted:
            sys.exit(130)
        print_result(console, result)
        console.print(
            f"untuned network: {beside(before, result.untuned_s)}; nothing was run for the "
            f"estimate\ntuned network: {beside(told, result.tuned_s)}; told before tuning, for "
            f"{trials_each} trials a kernel, by a model that learned from this network, too\n"
            f"tuned network: "
            f"{beside(estimated('database', work_dir), result.tuned_s)}; its kernels were measured"
        )


if __name__ == "__main__":
    main()
