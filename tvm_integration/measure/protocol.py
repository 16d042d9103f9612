"""What a search asks of those that build and run candidates: TVM's own contract, in types."""

from typing import Protocol, runtime_checkable

from tvm_integration.compat import BuilderInput, BuilderResult, RunnerFuture, RunnerInput

__all__ = ["Builder", "Runner"]


@runtime_checkable
class Builder(Protocol):
    """Builds candidates: `WarmBuilder`, `ReplayBuilder`, TVM's ``LocalBuilder``."""

    def build(self, build_inputs: list[BuilderInput]) -> list[BuilderResult]:
        """Build candidates.

        Parameters
        ----------
        build_inputs : list of BuilderInput
            A scheduled program and its target each.

        Returns
        -------
        list of BuilderResult
            In the same order: the path of an artifact, in a folder of its own that whoever takes
            the result removes, or why there is none. Never an exception for a candidate's sake.
        """
        ...


@runtime_checkable
class Runner(Protocol):
    """Runs what was built: `WarmRunner`, `WarmRPCRunner`, `ReplayRunner`, TVM's ``LocalRunner``."""

    def run(self, runner_inputs: list[RunnerInput]) -> list[RunnerFuture]:
        """Measure artifacts.

        Parameters
        ----------
        runner_inputs : list of RunnerInput
            The path of an artifact, the kind of device, and the arguments' types each.

        Returns
        -------
        list of RunnerFuture
            In the same order: seconds of each repeat, or why there are none. Never an exception for
            a candidate's sake.
        """
        ...
