"""The one file that names the parts of TVM which move between releases.

Everything else in this package takes TVM's names from here, but for `targets`, which needs none of
them, and `tensor_intrinsics`, which is needed before them. Importing this module imports TVM and
its tensor intrinsics, which takes some 4 s.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tvm_integration.tensor_intrinsics import import_all_intrinsics, import_intrinsics

import_intrinsics()

import tvm  # noqa: E402
from tvm import relax, te  # noqa: E402
from tvm.ir import IRModule, load_json, save_json  # noqa: E402
from tvm.ir.expr import TensorLoad  # noqa: E402
from tvm.ir.utils import derived_object  # noqa: E402
from tvm.rpc import connect_tracker as connect_rpc_tracker  # noqa: E402
from tvm.s_tir import dlight, meta_schedule  # noqa: E402
from tvm.s_tir.analysis import estimate_tir_flops  # noqa: E402
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
    RPCConfig,
    RunnerFuture,
    RunnerInput,
    RunnerResult,
)
from tvm.s_tir.meta_schedule.runner.local_runner import (  # noqa: E402
    default_cleanup,
    default_run_evaluator,
)
from tvm.s_tir.meta_schedule.runner.rpc_runner import (  # noqa: E402
    default_run_evaluator as rpc_run_evaluator,
)
from tvm.s_tir.meta_schedule.search_strategy import (  # noqa: E402
    MeasureCandidate,
    PySearchStrategy,
)
from tvm.s_tir.meta_schedule.task_scheduler import PyTaskScheduler  # noqa: E402
from tvm.s_tir.meta_schedule.task_scheduler.task_scheduler import TaskRecord  # noqa: E402
from tvm.s_tir.meta_schedule.utils import (  # noqa: E402
    get_global_func_with_default_on_worker,
)
from tvm.s_tir.schedule import Instruction, Schedule, ScheduleError, Trace  # noqa: E402
from tvm.support import cc  # noqa: E402
from tvm.target import Target  # noqa: E402
from tvm_ffi import (  # noqa: E402
    register_error,
    register_global_func,
    structural_equal,
    structural_hash,
    structural_map,
)

if TYPE_CHECKING:
    import onnx
    import torch

from costmodels.errors import CheckpointError, InputError, SchemaError  # noqa: E402
from tvm_integration.workers.fork_server_client import WorkerError  # noqa: E402

# On their way through TVM's C++ code, which calls cost models, builders and runners, all others
# become RuntimeError.
for _error in (CheckpointError, InputError, KeyboardInterrupt, SchemaError, WorkerError):
    register_error(_error)


def from_exported_program(
    program: "torch.export.ExportedProgram", converters: Mapping[str, Callable[[Any, Any], Any]]
) -> IRModule:
    """Import an exported and decomposed torch program, its parameters as constants.

    The importers of Relax load torch's or onnx's graph code, which workers never need.
    """
    from tvm.relax.frontend import torch as importer

    return importer.from_exported_program(
        program,
        unwrap_unit_return_tuple=True,
        run_ep_decomposition=False,
        custom_convert_map=dict(converters),
    )


def from_onnx(model: "onnx.ModelProto", shapes: dict[str, list[int]]) -> IRModule:
    """Import an ONNX model with the given input shapes, its parameters as constants."""
    from tvm.relax.frontend import onnx as importer

    return importer.from_onnx(model, shape_dict=shapes, keep_params_in_input=False)


def onnx_converters() -> frozenset[str]:
    """Return the names of the ONNX operators that TVM's importer has a converter for."""
    from tvm.relax.frontend.onnx import onnx_frontend

    return frozenset(name for name, made in onnx_frontend._get_convert_map().items() if made)


@contextmanager
def without_notebook_tables() -> Iterator[None]:
    """Let MetaSchedule log its tables in a notebook as it does elsewhere.

    There it draws them with pandas, on which TVM does not depend: without it tuning ends at the
    first table.
    """
    name = "s_tir.meta_schedule.using_ipython"
    before = tvm.get_global_func(name)
    register_global_func(name, lambda: False, override=True)
    try:
        yield
    finally:
        register_global_func(name, before, override=True)


def byte_view(tensor: "tvm.runtime.Tensor", shape: tuple[int, ...]) -> "tvm.runtime.Tensor":
    """Return a tensor of bytes that shares the memory of another, from its first byte on."""
    return tensor._create_view(shape, "uint8")


def normalize_prim_func(function: "tvm.tirx.PrimFunc") -> IRModule:
    """Return the module that a kernel is in the tasks and the databases of MetaSchedule."""
    return tvm.get_global_func("tvm.s_tir.meta_schedule.normalize_mod")(function)


__all__ = [
    "BuilderInput",
    "BuilderResult",
    "EvaluatorConfig",
    "IRModule",
    "Instruction",
    "MeasureCallback",
    "MeasureCandidate",
    "PerStoreFeature",
    "PyBuilder",
    "PyCostModel",
    "PyMeasureCallback",
    "PyRunner",
    "PyRunnerFuture",
    "PySearchStrategy",
    "PyTaskScheduler",
    "RPCConfig",
    "RunnerFuture",
    "RunnerInput",
    "RunnerResult",
    "Schedule",
    "ScheduleError",
    "Target",
    "TaskRecord",
    "TensorLoad",
    "Trace",
    "byte_view",
    "cc",
    "connect_rpc_tracker",
    "default_build",
    "default_cleanup",
    "default_export",
    "default_run_evaluator",
    "derived_object",
    "dlight",
    "estimate_tir_flops",
    "from_exported_program",
    "from_onnx",
    "get_global_func_with_default_on_worker",
    "import_all_intrinsics",
    "load_json",
    "meta_schedule",
    "normalize_prim_func",
    "onnx_converters",
    "relax",
    "rpc_run_evaluator",
    "save_json",
    "structural_equal",
    "structural_hash",
    "structural_map",
    "te",
    "tvm",
    "without_notebook_tables",
]
