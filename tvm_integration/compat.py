"""The one file that names the parts of TVM which move between releases.

Everything else in this package takes TVM's names from here. Importing this module imports TVM
(about 2.5 s) and TVM's tensor intrinsics, which MetaSchedule needs in every process: stock TVM
spends 15 s on them, nearly all of it in ``inspect.stack()`` reading source files for each of some
hundred intrinsics; with plain frames in its place they take under 2 s.
"""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def _frames_without_source(context: int = 1) -> list[inspect.FrameInfo]:
    """Stand in for `inspect.stack`: the same frames, without reading any source line."""
    frame = sys._getframe(1)
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append(
            inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None)
        )
        frame = frame.f_back
    return stack


@contextmanager
def _plain_stack() -> Iterator[None]:
    original = inspect.stack
    inspect.stack = _frames_without_source
    try:
        yield
    finally:
        inspect.stack = original


with _plain_stack():
    import tvm
    import tvm.s_tir.tensor_intrin  # noqa: F401 - registers the intrinsics

from tvm import relax  # noqa: E402
from tvm.ir import IRModule, load_json, save_json  # noqa: E402
from tvm.ir.utils import derived_object  # noqa: E402
from tvm.s_tir import meta_schedule  # noqa: E402
from tvm.s_tir.meta_schedule.builder import BuilderInput, BuilderResult, PyBuilder  # noqa: E402
from tvm.s_tir.meta_schedule.builder.local_builder import (  # noqa: E402
    default_build,
    default_export,
)
from tvm.s_tir.meta_schedule.cost_model import PyCostModel  # noqa: E402
from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature  # noqa: E402
from tvm.s_tir.meta_schedule.measure_callback import (  # noqa: E402
    MeasureCallback,
    PyMeasureCallback,
)
from tvm.s_tir.meta_schedule.runner import (  # noqa: E402
    EvaluatorConfig,
    PyRunner,
    PyRunnerFuture,
    RunnerInput,
    RunnerResult,
)
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate  # noqa: E402
from tvm.s_tir.meta_schedule.task_scheduler import PyTaskScheduler  # noqa: E402
from tvm.s_tir.meta_schedule.utils import (  # noqa: E402
    cpu_count,
    get_global_func_with_default_on_worker,
)
from tvm.s_tir.schedule import Schedule, Trace  # noqa: E402
from tvm.target import Target  # noqa: E402

__all__ = [
    "BuilderInput",
    "BuilderResult",
    "EvaluatorConfig",
    "IRModule",
    "MeasureCallback",
    "MeasureCandidate",
    "PerStoreFeature",
    "PyBuilder",
    "PyCostModel",
    "PyMeasureCallback",
    "PyRunner",
    "PyRunnerFuture",
    "PyTaskScheduler",
    "RunnerInput",
    "RunnerResult",
    "Schedule",
    "Target",
    "Trace",
    "cpu_count",
    "default_build",
    "default_export",
    "derived_object",
    "get_global_func_with_default_on_worker",
    "load_json",
    "meta_schedule",
    "relax",
    "save_json",
    "tvm",
]
