"""A MetaSchedule builder whose worker processes stay warm.

Stock `LocalBuilder` starts new processes for each batch and imports TVM in each of them, about
20 s a batch on 2 cores; compiling one candidate takes 0.1 to 0.3 s.
"""

import contextlib
import functools
import itertools
import os
import shutil
import statistics
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from costmodels.cores import core_count
from costmodels.errors import InputError
from tvm_integration.compat import (
    BuilderInput,
    BuilderResult,
    PyBuilder,
    cc,
    default_build,
    derived_object,
    tvm,
)
from tvm_integration.measure.callables import FunctionOrName, require_function, resolve
from tvm_integration.measure.kernel_arguments import write_ranges
from tvm_integration.measure.outcomes import failure_message
from tvm_integration.workers.fork_server_client import require_linux
from tvm_integration.workers.pool import JOBS_PER_WORKER, JobResult, WorkerPool

__all__ = ["WarmBuilder"]

_Job: TypeAlias = tuple[Any, Any, Any, str]
_ARTIFACT_NAME = "tvm_tmp_mod.tar"
_artifact_numbers = itertools.count(1)

USUAL_BUILDS = 256
"""The newest builds that tell how long one takes."""
MIN_BUILDS = 16
"""With fewer, no build is known to be slow."""
MIN_TIMEOUT_S = 5.0
"""A build is never called slow before."""


@derived_object
class WarmBuilder(PyBuilder):
    """Builds candidates in processes that are forked from one that has imported TVM.

    A drop-in for TVM's `LocalBuilder`: the same parameters with the same meaning, and artifacts
    that TVM's own runners accept. The constructor returns at once, while TVM is imported in the
    background; what is wrong with `f_build`, `f_export` or `initializer` shows at the first
    build. A candidate that cannot be built gives a BuilderResult with an ``error_msg``, whatever
    it did to its process.

    Parameters
    ----------
    max_workers : int, optional
        Most builds at a time; the number of CPUs this process may use by default.
    timeout_sec : float
        Seconds one build may take, its export included.
    f_build : callable or str, optional
        ``(mod, target, params) -> module``, or its name in TVM's registry on the worker.
    f_export : callable or str, optional
        ``(module) -> path``, likewise. What it leaves in `tempfile`'s folder is removed when this
        process ends.
    initializer : callable, optional
        Called in each new worker.
    jobs_per_worker : int
        A worker is replaced after so many builds, because TVM warns of a leak.
    slow_ratio : float, optional
        A build ends as a timeout when it takes so many times as long as the median of those
        before, though not within `MIN_TIMEOUT_S`. By default only `timeout_sec` counts.

    Raises
    ------
    InputError
        For a parameter that cannot be, or another system than Linux.

    Notes
    -----
    Artifacts are valid until they are removed or this process ends. Beside the ``.tar`` that
    TVM's runners take lies the shared library they would link from it, if it is for this
    machine: `WarmRunner` loads that, so that measuring does not wait for linking. For a kernel
    that takes whole numbers another file there says which of them are valid.
    """

    def __init__(
        self,
        *,
        max_workers: int | None = None,
        timeout_sec: float = 30.0,
        f_build: FunctionOrName = None,
        f_export: FunctionOrName = None,
        initializer: Callable[[], None] | None = None,
        jobs_per_worker: int = JOBS_PER_WORKER,
        slow_ratio: float | None = None,
    ) -> None:
        super().__init__()
        require_linux()
        if slow_ratio is not None and not slow_ratio > 1:
            raise InputError(
                f"slow_ratio must be above 1, got {slow_ratio!r}: pass None to end no build early"
            )
        if max_workers is None:
            max_workers = core_count()
        require_function("f_build", f_build)
        require_function("f_export", f_export)
        self.max_workers = max_workers
        self.timeout_sec = timeout_sec
        self._slow_ratio = slow_ratio
        self._build_s: deque[float] = deque(maxlen=USUAL_BUILDS)
        self._pool = WorkerPool(
            functools.partial(_prepare_build, f_build, f_export),
            stage="build",
            initializer=initializer,
            max_workers=max_workers,
            timeout_sec=timeout_sec,
            jobs_per_worker=jobs_per_worker,
        )

    def build(self, build_inputs: list[BuilderInput]) -> list[BuilderResult]:
        """Build candidates.

        Parameters
        ----------
        build_inputs : list of BuilderInput
            One for each candidate.

        Returns
        -------
        list of BuilderResult
            In the same order: the path of the artifact, or ``WarmBuilder: kind: reason``.

        Raises
        ------
        InputError
            When `f_build` or `f_export` is not registered on the worker.
        WorkerError
            When no worker can be started, or `initializer` raises.
        """
        artifacts = self._pool.root() / "artifacts"
        jobs: list[_Job] = []
        for build_input in build_inputs:
            folder = artifacts / str(next(_artifact_numbers))
            jobs.append((build_input.mod, build_input.target, build_input.params, str(folder)))
        results = self._pool.map(jobs, timeout_sec=self._limit_s())
        self._build_s += [result.wall_s for result in results if result.failure is None]
        return [_builder_result(job, result) for job, result in zip(jobs, results, strict=True)]

    def _limit_s(self) -> float:
        if self._slow_ratio is None or len(self._build_s) < MIN_BUILDS:
            return self.timeout_sec
        slow_s = self._slow_ratio * statistics.median(self._build_s)
        return min(self.timeout_sec, max(MIN_TIMEOUT_S, slow_s))

    def close(self) -> None:
        """End the workers; artifacts stay. Closing twice is allowed."""
        self._pool.close()


def _builder_result(job: _Job, result: JobResult) -> BuilderResult:
    if result.failure is None:
        return BuilderResult(result.value, None)
    shutil.rmtree(job[-1], ignore_errors=True)
    return BuilderResult(None, failure_message("WarmBuilder", result.failure))


def _prepare_build(f_build: FunctionOrName, f_export: FunctionOrName) -> Callable[[_Job], str]:
    """Make the function that does a job; called in the worker."""
    build = resolve("f_build", f_build, default_build)
    export = None if f_export is None else resolve("f_export", f_export, _export)

    def work(job: _Job) -> str:
        mod, target, params, folder = job
        module = build(mod, target, params)
        if export is None:
            path = _export(module, Path(folder))
            write_ranges(mod, path)
            return path
        with _lasting_temporary_files(Path(folder).parent):
            return str(export(module))

    return work


@contextlib.contextmanager
def _lasting_temporary_files(folder: Path) -> Iterator[None]:
    """Have temporary files made in a folder that outlives the worker."""
    usual = tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        os.environ["TMPDIR"] = tempfile.tempdir = str(usual)


def _export(module: "tvm.runtime.Module", folder: Path) -> str:
    """Export as TVM's `default_export` does, to a given folder, and link for this machine."""
    folder.mkdir()
    path = folder / _ARTIFACT_NAME
    module.export_library(str(path), fcompile=_bundle)
    return str(path)


def _bundle(output: str, files: list[str]) -> None:
    with tarfile.open(output, "w") as archive:
        for file in files:
            archive.add(file, os.path.basename(file))
    if cc.get_cc() is not None and all(map(_is_for_this_machine, files)):
        # What cannot be linked here can still be linked, or be refused, where it runs.
        with contextlib.suppress(RuntimeError):
            cc.create_shared(f"{output}.so", files)


def _is_for_this_machine(file: str) -> bool:
    """Whether a file is an ELF object of this interpreter's architecture."""
    with open(file, "rb") as candidate, open("/proc/self/exe", "rb") as running:
        ours, theirs = running.read(20), candidate.read(20)
    # Magic, word size and byte order; then the machine (System V ABI, ELF header).
    return ours[:6] == theirs[:6] and ours[18:20] == theirs[18:20]
