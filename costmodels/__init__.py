"""Learned cost models for the Apache TVM compiler.

Importing this package loads nothing heavy: the public names below are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from costmodels.dataset.folder import read_dataset
    from costmodels.device import Device, detect_host, read_device
    from costmodels.errors import CheckpointError, CostModelError, InputError, SchemaError
    from costmodels.evaluation import evaluate
    from costmodels.fitting import fit
    from costmodels.kernel import (
        Failure,
        KernelBatch,
        KernelDataset,
        KernelPrediction,
        Measured,
        Task,
    )
    from costmodels.load_model import load_kernel_model, load_network_model
    from costmodels.networks.from_onnx import graph_from_onnx
    from costmodels.networks.from_torch import graph_from_torch
    from costmodels.networks.graph import NetworkGraph
    from costmodels.networks.sample import NetworkDataset, NetworkPrediction, NetworkSample
    from costmodels.protocol import KernelCostModel, NetworkCostModel
    from costmodels.registry import (
        kernel_model_class,
        kernel_model_names,
        network_model_names,
        new_kernel_model,
    )

_HOME = {
    "CheckpointError": "errors",
    "CostModelError": "errors",
    "Device": "device",
    "Failure": "kernel",
    "InputError": "errors",
    "KernelBatch": "kernel",
    "KernelCostModel": "protocol",
    "KernelDataset": "kernel",
    "KernelPrediction": "kernel",
    "Measured": "kernel",
    "SchemaError": "errors",
    "Task": "kernel",
    "NetworkCostModel": "protocol",
    "NetworkDataset": "networks.sample",
    "NetworkGraph": "networks.graph",
    "NetworkPrediction": "networks.sample",
    "NetworkSample": "networks.sample",
    "detect_host": "device",
    "graph_from_onnx": "networks.from_onnx",
    "graph_from_torch": "networks.from_torch",
    "load_network_model": "load_model",
    "network_model_names": "registry",
    "kernel_model_class": "registry",
    "kernel_model_names": "registry",
    "load_kernel_model": "load_model",
    "evaluate": "evaluation",
    "fit": "fitting",
    "new_kernel_model": "registry",
    "read_dataset": "dataset.folder",
    "read_device": "device",
}

__all__ = [
    "CheckpointError",
    "CostModelError",
    "Device",
    "Failure",
    "InputError",
    "KernelBatch",
    "KernelCostModel",
    "KernelDataset",
    "KernelPrediction",
    "Measured",
    "SchemaError",
    "Task",
    "detect_host",
    "kernel_model_class",
    "kernel_model_names",
    "evaluate",
    "fit",
    "load_kernel_model",
    "new_kernel_model",
    "read_dataset",
    "read_device",
    "NetworkCostModel",
    "NetworkDataset",
    "NetworkGraph",
    "NetworkPrediction",
    "NetworkSample",
    "graph_from_onnx",
    "graph_from_torch",
    "load_network_model",
    "network_model_names",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
