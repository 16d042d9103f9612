"""Learned cost models, warm workers and tuning for Apache TVM's MetaSchedule.

Importing this package checks the versions of TVM's wheels but does not import TVM: the public
names below are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tvm_integration.versions import check_versions

check_versions()

if TYPE_CHECKING:
    from tvm_integration.builder import WarmBuilder
    from tvm_integration.cost_model import MetaScheduleCostModel
    from tvm_integration.measure_log import MeasureLog
    from tvm_integration.pipeline import tuning_pipeline
    from tvm_integration.rpc_runner import WarmRPCRunner
    from tvm_integration.runner import WarmRunner
    from tvm_integration.task_scheduler import EagerScheduler

_HOME = {
    "MeasureLog": "measure_log",
    "MetaScheduleCostModel": "cost_model",
    "EagerScheduler": "task_scheduler",
    "WarmBuilder": "builder",
    "WarmRPCRunner": "rpc_runner",
    "WarmRunner": "runner",
    "tuning_pipeline": "pipeline",
}

__all__ = [
    "MeasureLog",
    "MetaScheduleCostModel",
    "EagerScheduler",
    "WarmBuilder",
    "WarmRPCRunner",
    "WarmRunner",
    "tuning_pipeline",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
