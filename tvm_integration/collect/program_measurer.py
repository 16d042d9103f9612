"""Builds and measures programs of a data set's tasks, and a reference kernel in between."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodels.dataset.kernel_rows import RecordRow, ReferenceRow, now
from costmodels.dataset.writer import DatasetWriter
from costmodels.device import Device
from costmodels.errors import InputError
from costmodels.kernel import Measured
from tvm_integration.collect.program_records import device_type, program_record
from tvm_integration.compat import (
    BuilderInput,
    IRModule,
    MeasureCandidate,
    RPCConfig,
    RunnerInput,
    Schedule,
    Target,
    meta_schedule,
    normalize_prim_func,
    tvm,
)
from tvm_integration.identity import program_hash
from tvm_integration.measure.builder import WarmBuilder
from tvm_integration.measure.outcomes import measurement_of, outcome_of
from tvm_integration.measure.rpc_runner import WarmRPCRunner
from tvm_integration.measure.runner import WarmRunner
from tvm_integration.measure.settings import MEASURE
from tvm_integration.measure.value_dependent import ARGUMENT_SETS
from tvm_integration.records.rows import processor_fingerprint, target_of, task_row
from tvm_integration.threads import thread_count

REFERENCE_SIZE = 256
"""Of the square matrices that the reference kernel multiplies, unscheduled."""
SLOW_BUILD = 20.0
"""Times the median build after which one ends as a timeout: few programs build for minutes, and one
that does would hold up all others."""
MIN_FREE_BYTES = 64 << 20


def require_free_disk(folder: Path) -> None:
    """Raise InputError when the disk of a folder is nearly full: nothing is lost then."""
    if shutil.disk_usage(folder).free < MIN_FREE_BYTES:
        raise InputError(
            f"the disk of {folder} must have {MIN_FREE_BYTES >> 20} MiB free, got less: free "
            "some space and give the same command again, nothing is lost"
        )


class ProgramMeasurer:
    """Builds programs in warm workers and measures them one after the other.

    Parameters
    ----------
    writer : DatasetWriter
        Holds the tasks; gets the readings of the reference kernel.
    target : Target
        Of the tasks.
    device : Device
        What it is measured on.
    rpc : RPCConfig, optional
        Where to measure; on this machine by default, with as many threads as the target has cores.

    Raises
    ------
    InputError
        When `rpc` names no tracker that has a device, or this machine has too few cores.
    """

    def __init__(
        self,
        writer: DatasetWriter,
        target: Target,
        device: Device,
        rpc: RPCConfig | None = None,
    ) -> None:
        self._writer = writer
        self._target = target
        self._device = device
        self._runner: WarmRunner | WarmRPCRunner
        if rpc is None:
            threads = thread_count(target)
            self._processor = processor_fingerprint(threads)
            self._runner = WarmRunner(
                evaluator_config=MEASURE, argument_sets=ARGUMENT_SETS, threads=threads
            )
        else:
            cores = target.attrs.get("num-cores")
            remote = int(cores) if cores is not None and target.kind.name == "llvm" else None
            count = "" if remote is None else f", {remote} threads"
            self._processor = f"{device.name}, RPC key {rpc.tracker_key}{count}"
            self._runner = WarmRPCRunner(rpc, MEASURE, threads=remote)
        self._builder = WarmBuilder(slow_ratio=SLOW_BUILD)
        self._reference: tuple[str, int, str, Any] | None = None

    def close(self) -> None:
        """End the worker processes."""
        self._builder.close()
        self._runner.close()

    def measure(
        self, key: str, candidates: Sequence[MeasureCandidate], origins: Sequence[str]
    ) -> list[RecordRow]:
        """Measure programs of one task.

        Parameters
        ----------
        key : str
            Of the task.
        candidates : sequence of MeasureCandidate
            Those that come first are measured first; one far slower than the best is stopped early.
        origins : sequence of str
            Of each, as of `RecordRow`.

        Returns
        -------
        list of RecordRow
            In the same order, failures among them.
        """
        return self.measure_tasks([(key, candidates, origins)])[0]

    def measure_tasks(
        self, parts: Sequence[tuple[str, Sequence[MeasureCandidate], Sequence[str]]]
    ) -> list[list[RecordRow]]:
        """Likewise of several tasks, all built at a time."""
        jobs = [
            BuilderInput(candidate.sch.mod, target_of(self._writer.tasks[key]))
            for key, candidates, _ in parts
            for candidate in candidates
        ]
        built = iter(self._builder.build(jobs))
        return [
            self._run(key, candidates, origins, [next(built) for _ in candidates])
            for key, candidates, origins in parts
        ]

    def _run(
        self,
        key: str,
        candidates: Sequence[MeasureCandidate],
        origins: Sequence[str],
        built: Sequence[Any],
    ) -> list[RecordRow]:
        kind = device_type(target_of(self._writer.tasks[key]))
        inputs = [
            RunnerInput(b.artifact_path, kind, c.args_info)
            for b, c in zip(built, candidates, strict=True)
            if b.error_msg is None
        ]
        results = iter(self._runner.run(inputs))
        records = []
        for origin, candidate, artifact in zip(origins, candidates, built, strict=True):
            early_stopped = False
            if artifact.error_msg is not None:
                outcome = outcome_of(None, artifact)
            else:
                outcome = outcome_of(next(results).result())
                note = self._runner.take_note(artifact.artifact_path)
                early_stopped = note is not None and note.early_stopped
                shutil.rmtree(Path(str(artifact.artifact_path)).parent, ignore_errors=True)
            records.append(
                program_record(
                    key,
                    candidate.sch,
                    outcome,
                    origin=origin,
                    processor=self._processor,
                    early_stopped=early_stopped,
                )
            )
        return records

    def read_reference(self) -> None:
        """Measure the reference kernel once more: it shows the noise of the machine."""
        if self._reference is None:
            self._reference = self._make_reference()
        key, program, path, arguments = self._reference
        target = target_of(self._writer.tasks[key])
        (future,) = self._runner.run([RunnerInput(path, device_type(target), arguments)])
        measured = measurement_of(future.result().run_secs)
        if isinstance(measured, Measured):
            self._writer.add([ReferenceRow(key, program, measured.run_s, now(), self._processor)])

    def _make_reference(self) -> tuple[str, int, str, Any]:
        target = self._target
        mod = _reference_matmul()
        row = task_row(
            mod,
            target,
            self._device,
            name="reference_matmul",
            networks={},
            operators=("matmul",),
        )
        self._writer.add([row])
        (built,) = self._builder.build([BuilderInput(mod, target)])
        arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
        if built.error_msg is not None:
            raise InputError(
                f"the reference kernel must build for {target.kind.name}, got {built.error_msg}"
            )
        return row.key, program_hash(Schedule(mod)), str(built.artifact_path), arguments


def _reference_matmul() -> IRModule:
    te = tvm.te
    n = REFERENCE_SIZE
    a, b = (te.placeholder((n, n), name=name) for name in "AB")
    k = te.reduce_axis((0, n), name="k")
    c = te.compute((n, n), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    return normalize_prim_func(te.create_prim_func([a, b, c]))
