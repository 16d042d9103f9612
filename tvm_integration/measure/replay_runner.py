"""A builder and a runner that play what a data set has measured, so that no hardware is needed.

A search runs over them as over the real ones, takes no time but its own, and finds the same each
time: so search code is tested, and compared, on any machine. What a search asks for that nobody
has measured a model can answer, as surrogate benchmarks of architecture search do.
"""

import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from costmodels.checks import require_type
from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.kernel import Failure, Measured, Measurement, Task
from costmodels.load_model import load_kernel_model
from costmodels.protocol import KernelCostModel
from tvm_integration.compat import (
    BuilderInput,
    BuilderResult,
    MeasureCandidate,
    PyBuilder,
    PyRunner,
    RunnerFuture,
    RunnerInput,
    Schedule,
    derived_object,
    meta_schedule,
)
from tvm_integration.foreign_errors import one_line
from tvm_integration.identity import program_hash, target_text
from tvm_integration.measure.outcomes import failure_message, runner_result
from tvm_integration.measure.runner import done
from tvm_integration.tir.features import FeatureExtractor

__all__ = ["ReplayBuilder", "ReplayRunner"]

_log = logging.getLogger(__name__)

NOT_MEASURED = Failure("run", "nobody has measured this program")
_OUTCOME = "outcome.json"


@derived_object
class ReplayBuilder(PyBuilder):
    """Looks up what became of a program, for `ReplayRunner` to tell.

    Parameters
    ----------
    dataset : str, path or StoredDataset
        Whose measurements are played: a folder, or ``shipped:NAME``. Of programs that it has twice
        the first counts.
    model : str, path or KernelCostModel, optional
        Answers for programs that the data set does not have: one that gives seconds, has learned
        and needs no graphs, as ``pretrained:gbt``. Without one such a program fails.
    device : Device, optional
        That the model answers for; by default that of the data set's tasks on the target, and a
        program for a target that is not in the data set fails.

    Attributes
    ----------
    asked : collections.Counter
        How many programs were ``"measured"``, ``"predicted"``, or ``"unknown"``.

    Raises
    ------
    InputError
        When the model cannot answer, or there is no such data set.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str] | StoredDataset,
        model: str | os.PathLike[str] | KernelCostModel | None = None,
        *,
        device: Device | None = None,
    ) -> None:
        super().__init__()
        require_type("dataset", dataset, str | os.PathLike | StoredDataset)
        require_type("device", device, Device | None)
        if model is not None:
            model = load_kernel_model(model)
            problem = (
                "one that needs graphs"
                if model.graphs
                else "one that only ranks"
                if not model.claims.seconds
                else "one that has learned nothing"
                if not model.is_fitted
                else None
            )
            if problem is not None:
                raise InputError(
                    "a model that answers for what was not measured must give seconds by rows "
                    f"alone, got {problem} ({model.name}): take pretrained:gbt"
                )
        stored = dataset if isinstance(dataset, StoredDataset) else read_dataset(dataset)
        self._model = model
        self._extractor = FeatureExtractor()
        self._device = device
        self._devices = {task.target: task.device for task in stored.tasks.values()}
        self._known: dict[tuple[str, int], tuple[Measurement, str | None]] = {}
        for record in stored.records:
            key = stored.tasks[record.task].target, record.program
            self._known.setdefault(key, (record.measurement, record.failed_in))
        self.asked: Counter[str] = Counter()
        self._told: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="costmodels-replay-")
        self._built = 0

    def build(self, build_inputs: list[BuilderInput]) -> list[BuilderResult]:
        """Look programs up; called by TVM.

        Parameters
        ----------
        build_inputs : list of BuilderInput
            Candidates.

        Returns
        -------
        list of BuilderResult
            An artifact each, but for programs whose build failed when they were measured.
        """
        found = []
        for each in build_inputs:
            try:
                found.append(self._result(*self._outcome(each)))
            except Exception as error:  # a builder must answer for every candidate
                failure = Failure("build", one_line(error))
                found.append(BuilderResult(None, failure_message("ReplayBuilder", failure)))
        return found

    def _outcome(self, asked: BuilderInput) -> tuple[Measurement, str | None]:
        schedule = Schedule(asked.mod)
        target = target_text(asked.target)
        found = self._known.get((target, program_hash(schedule)))
        if found is not None:
            self.asked["measured"] += 1
            return found
        device = self._device or self._devices.get(target)
        kind = "cpu" if asked.target.kind.name in ("llvm", "c") else "gpu"
        if self._model is None or device is None or device.kind != kind:
            self._tell_of(target)
            self.asked["unknown"] += 1
            return NOT_MEASURED, "run"
        context = meta_schedule.TuneContext(mod=asked.mod, target=asked.target, num_threads=1)
        candidate = MeasureCandidate(schedule, [])
        batch = self._extractor.extract(context, [candidate], Task("replay", device))
        seconds = self._model.predict(batch).latency_s
        assert seconds is not None  # as it claims
        if not seconds[0] > 0:
            self.asked["unknown"] += 1
            return NOT_MEASURED, "run"
        self.asked["predicted"] += 1
        return Measured((float(seconds[0]),)), None

    def _tell_of(self, target: str) -> None:
        """Warn, once, of a target that nothing is known of."""
        if target not in self._devices and target not in self._told:
            self._told.add(target)
            _log.warning(
                "the data set has nothing for target %s, only for %s: its programs fail, unless a "
                "model and a device of its kind are given",
                target,
                "; ".join(self._devices),
            )

    def _result(self, measurement: Measurement, failed_in: str | None) -> BuilderResult:
        if failed_in == "build" and isinstance(measurement, Failure):
            return BuilderResult(None, failure_message("ReplayBuilder", measurement))
        self._built += 1
        folder = Path(self._folder.name) / str(self._built)  # TVM removes it with the artifact
        folder.mkdir()
        values = (
            {"run_s": measurement.run_s}
            if isinstance(measurement, Measured)
            else {"failure": [measurement.kind, measurement.reason]}
        )
        (folder / _OUTCOME).write_text(json.dumps(values))
        return BuilderResult(str(folder / _OUTCOME), None)


@derived_object
class ReplayRunner(PyRunner):
    """Tells what `ReplayBuilder` has looked up."""

    def run(self, runner_inputs: list[RunnerInput]) -> list[RunnerFuture]:
        """Play measurements; called by TVM.

        Parameters
        ----------
        runner_inputs : list of RunnerInput
            With artifacts of a `ReplayBuilder`.

        Returns
        -------
        list of RunnerFuture
            All done, in the same order.

        Raises
        ------
        InputError
            For an artifact of another builder.
        """
        return [done(runner_result("ReplayRunner", each)) for each in _played(runner_inputs)]


def _played(runner_inputs: Iterable[RunnerInput]) -> Iterable[Measurement]:
    for each in runner_inputs:
        path = Path(str(each.artifact_path))
        try:
            values = json.loads(path.read_bytes())
            failure = values.get("failure")
            yield Measured(tuple(values["run_s"])) if failure is None else Failure(*failure)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise InputError(
                f"an artifact must be of a ReplayBuilder to be played, got {path}: give both the "
                "builder and the runner"
            ) from None
