"""Learned cost models, warm workers and tuning for Apache TVM's MetaSchedule.

Importing this package checks the versions of TVM's wheels but does not import TVM: the public
names below are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from tvm_integration.versions import check_versions

check_versions()

if TYPE_CHECKING:
    from tvm_integration.collect.dataset import NetworkOptions, collect_kernels, collect_networks
    from tvm_integration.collect.featurize import featurize
    from tvm_integration.collect.kernels import CollectOptions
    from tvm_integration.compile.network_graph import graph_from_relax
    from tvm_integration.estimate.calibrate import CalibrateOptions, calibrate
    from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
    from tvm_integration.learn.explain import explain_kernel
    from tvm_integration.measure.builder import WarmBuilder
    from tvm_integration.measure.measure_log import MeasureLog
    from tvm_integration.measure.replay_runner import ReplayBuilder, ReplayRunner
    from tvm_integration.measure.rpc_runner import WarmRPCRunner
    from tvm_integration.measure.runner import WarmRunner
    from tvm_integration.records.schedule_library import ScheduleLibrary
    from tvm_integration.tune.cost_model import MetaScheduleCostModel
    from tvm_integration.tune.relax_pass import tuning_pipeline
    from tvm_integration.tune.scheduler import EagerScheduler
    from tvm_integration.tune.search.strategy import SketchSearch
    from tvm_integration.tune.session import tune_network
    from tvm_integration.tune.state import TuneOptions

_HOME = {
    "calibrate": "estimate.calibrate",
    "CalibrateOptions": "estimate.calibrate",
    "collect_kernels": "collect.dataset",
    "collect_networks": "collect.dataset",
    "CollectOptions": "collect.kernels",
    "EagerScheduler": "tune.scheduler",
    "estimate_network": "estimate.estimate",
    "EstimateOptions": "estimate.estimate",
    "explain_kernel": "learn.explain",
    "featurize": "collect.featurize",
    "graph_from_relax": "compile.network_graph",
    "MeasureLog": "measure.measure_log",
    "MetaScheduleCostModel": "tune.cost_model",
    "NetworkOptions": "collect.dataset",
    "ReplayBuilder": "measure.replay_runner",
    "ReplayRunner": "measure.replay_runner",
    "ScheduleLibrary": "records.schedule_library",
    "SketchSearch": "tune.search.strategy",
    "tune_network": "tune.session",
    "TuneOptions": "tune.state",
    "tuning_pipeline": "tune.relax_pass",
    "WarmBuilder": "measure.builder",
    "WarmRPCRunner": "measure.rpc_runner",
    "WarmRunner": "measure.runner",
}

__all__ = [
    "calibrate",
    "CalibrateOptions",
    "collect_kernels",
    "collect_networks",
    "CollectOptions",
    "EagerScheduler",
    "estimate_network",
    "EstimateOptions",
    "explain_kernel",
    "featurize",
    "graph_from_relax",
    "MeasureLog",
    "MetaScheduleCostModel",
    "NetworkOptions",
    "ReplayBuilder",
    "ReplayRunner",
    "ScheduleLibrary",
    "SketchSearch",
    "tune_network",
    "TuneOptions",
    "tuning_pipeline",
    "WarmBuilder",
    "WarmRPCRunner",
    "WarmRunner",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
