"""How often kernels are called to measure them, and the runner that tunes those of a network."""

from tvm_integration.compat import EvaluatorConfig, Target
from tvm_integration.measure.runner import WarmRunner
from tvm_integration.measure.value_dependent import ARGUMENT_SETS
from tvm_integration.threads import thread_count

__all__ = ["MEASURE", "MEASURE_IN_NETWORK", "measures_in_network", "network_runner"]

MEASURE = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=25)
"""Of programs of data sets, and of candidates on GPUs: three times 25 ms differ by 1 % (standard
deviation over mean) at the median program of `shipped:cpu`."""
MEASURE_IN_NETWORK = EvaluatorConfig(number=1, repeat=3, min_repeat_ms=10)
"""Of candidates on CPUs. Measured again and again, others in between, kernels of ViT-Tiny differ by
2.5 % (median of 15) with 25 ms as with 10: it is the machine that changes."""


def measures_in_network(target: Target) -> bool:
    """Whether candidates find their data where their network leaves them: on CPUs."""
    return bool(target.kind.name == "llvm")


def network_runner(target: Target, footprint_bytes: int) -> WarmRunner:
    """Make the runner for the kernels of one network.

    Parameters
    ----------
    target : Target
        Whose device is on this machine.
    footprint_bytes : int
        What one run of the network touches.

    Returns
    -------
    WarmRunner
        To be closed by the caller.
    """
    in_network = measures_in_network(target)
    return WarmRunner(
        evaluator_config=MEASURE_IN_NETWORK if in_network else MEASURE,
        argument_sets=ARGUMENT_SETS,
        threads=thread_count(target),
        network_bytes=footprint_bytes if in_network else None,
    )
