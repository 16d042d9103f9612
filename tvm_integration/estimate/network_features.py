"""A network as the estimate needs it: its launches, its kernels and their features; kept on disk.

Importing and fusing take most of an estimate's time and depend on nothing but the network, the
target and the releases at work; so what they give is kept under the user's cache directory.
"""

import contextlib
import ctypes
import functools
import gc
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import numpy as np

from costmodels.dataset.feature_cache import cache_key
from costmodels.device import Device
from costmodels.features.kernel_graph import StagedGraph
from costmodels.features.kernel_graph_json import graphs_from_json, graphs_to_json
from costmodels.features.schema import PER_STORE
from costmodels.files import cache_folder, write_atomically
from costmodels.kernel import IndexArray, KernelBatch, RowArray, Task
from costmodels.networks.fused_graph import FusedGraph
from tvm_integration.compat import (
    IRModule,
    MeasureCandidate,
    Schedule,
    Target,
    load_json,
    meta_schedule,
    save_json,
)
from tvm_integration.compile.fused_graph import graph_and_layers
from tvm_integration.compile.fusion import FusedNetwork, FusedTask, fuse
from tvm_integration.frontends.layer_names import LayerNames
from tvm_integration.frontends.load import load_network
from tvm_integration.frontends.model_spec import ModelName, check_model_name
from tvm_integration.identity import target_text, task_key
from tvm_integration.tir.features import FeatureExtractor, ProgramFeatures, distinct_graphs

PACKAGES = ("apache-tvm", "torch", "onnx", "transformers")


@dataclass(frozen=True)
class KernelFeatures:
    """A kernel of a network, before scheduling.

    Attributes
    ----------
    name : str
        TVM's name for it, that of its launches.
    key : str
        Its identity by content, as in data sets.
    weight : int
        How often it is called.
    flop : float
        Arithmetic operations of one call.
    workload : str
        TVM's JSON of the task.
    """

    name: str
    key: str
    weight: int
    flop: float
    workload: str

    @property
    def mod(self) -> IRModule:
        """The task."""
        return load_json(self.workload)

    def task(self) -> FusedTask:
        """What the search takes."""
        return FusedTask(self.name, self.weight, self.mod, (self.name,), self.flop)


@dataclass(frozen=True)
class NetworkFeatures:
    """What an estimate starts from.

    Attributes
    ----------
    name : str
        Of the network.
    graph : FusedGraph
        Its launches.
    kernels : tuple of KernelFeatures
        Each once.
    rows, row_offsets, graphs, graph_index
        Features of the kernels' unscheduled programs, as of `costmodels.kernel.KernelBatch`.
    layers : mapping
        Name of a kernel -> the layers whose weights it reads, as far as they are known.
    from_cache : bool
        Whether it was kept from an earlier run.
    """

    name: str
    graph: FusedGraph
    kernels: tuple[KernelFeatures, ...]
    rows: RowArray
    row_offsets: IndexArray
    graphs: tuple[StagedGraph, ...]
    graph_index: IndexArray
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    from_cache: bool = False

    def batch(self, device: Device) -> KernelBatch:
        """The unscheduled programs of all kernels, each a task of its own."""
        return KernelBatch(
            PER_STORE,
            self.rows,
            self.row_offsets,
            tuple(Task(kernel.key, device) for kernel in self.kernels),
            np.arange(len(self.kernels)),
            self.graphs,
            self.graph_index,
        )


def describe_network(
    model: str,
    target: Target,
    *,
    fresh: bool = False,
    on_stage: Callable[[str], None] = lambda _: None,
) -> NetworkFeatures:
    """Import, fuse and describe a network, or read what an earlier run kept of it.

    Parameters
    ----------
    model : str
        As `costmodels tune` takes it. What a ``module:function`` returns can change at any time,
        so nothing is kept of it.
    target : Target
        What to fuse for.
    fresh : bool
        Do not look at what is kept.
    on_stage : callable
        Told what is done now, for people: it can take a minute.

    Raises
    ------
    InputError
        When the network cannot be imported or fused.
    """
    name = check_model_name(model)
    path = None if name.kind == "function" else _kept_at(name, target)
    if path is not None and not fresh:
        found = _read(path)
        if found is not None:
            return found
    on_stage("importing the network")
    network = load_network(name)
    module, label, layers = network.module, network.name, network.layers
    del network  # and with it what its own framework holds
    _give_back_memory()
    on_stage("fusing the network")
    fused = fuse(module, target)
    del module
    _give_back_memory()
    found = _describe(fused, label, layers, on_stage)
    del fused
    _give_back_memory()
    if path is not None:
        _keep(path, found)
    return found


def _give_back_memory() -> None:
    """Let the system have what is free: torch leaves cycles, glibc keeps what they held."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def describe_module(
    module: IRModule,
    target: Target,
    *,
    name: str = "main",
    layers: LayerNames | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> NetworkFeatures:
    """Fuse and describe an imported network.

    Parameters
    ----------
    module : IRModule
        Of Relax, with fixed shapes and its weights as constants.
    target : Target
        What to fuse for, as `tune` does it.
    name : str
        For people.
    layers : mapping, optional
        Of `tvm_integration.frontends.network.Network`.
    on_stage : callable
        As of `describe_network`.
    """
    on_stage("fusing the network")
    return _describe(fuse(module, target), name, layers or {}, on_stage)


def _describe(
    fused: FusedNetwork, name: str, layers: LayerNames, on_stage: Callable[[str], None]
) -> NetworkFeatures:
    target = fused.target
    extractor = FeatureExtractor(programs_kept=0)
    programs: list[ProgramFeatures] = []
    parts = []
    for number, task in enumerate(fused.tasks, 1):
        on_stage(f"describing kernel {number} of {len(fused.tasks)}")
        context = meta_schedule.TuneContext(task.mod, target=target, num_threads=1)
        (program,) = extractor.programs(context, [MeasureCandidate(Schedule(task.mod), [])])
        programs.append(program)
        parts.append(distinct_graphs(task.mod, [program])[0][0])
    rows = [program.rows for program in programs]
    graph, layers_of_kernels = graph_and_layers(fused, layers)
    return NetworkFeatures(
        name=name,
        graph=graph,
        kernels=tuple(
            KernelFeatures(
                task.name,
                task_key(task.mod, target),
                task.weight,
                task.flop,
                save_json(task.mod),
            )
            for task in fused.tasks
        ),
        rows=np.concatenate([np.empty((0, len(PER_STORE.columns)), np.float32), *rows]),
        row_offsets=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        graphs=tuple(parts),
        graph_index=np.arange(len(parts)),
        layers=layers_of_kernels,
    )


def _weight_files(name: ModelName) -> list[Path]:
    """Files beside an ONNX file that hold its weights."""
    if name.kind != "onnx":
        return []
    from tvm_integration.frontends.onnx_file import weight_files

    return weight_files(Path(name.name))


@functools.cache
def _sources() -> str:
    """Digest of this project's code: what another state of it imported and kept may be wrong."""
    digest = blake2b(digest_size=16)
    for package in ("costmodels", "tvm_integration"):
        for path in sorted(Path(str(files(package))).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _kept_at(name: ModelName, target: Target) -> Path:
    content = ""
    if name.kind in ("onnx", "pt2"):
        digest = blake2b(digest_size=16)
        for path in (Path(name.name), *_weight_files(name)):
            digest.update(path.read_bytes() if path.is_file() else b"-")
        content = digest.hexdigest()
    releases = []
    for package in PACKAGES:
        try:
            releases.append(version(package))
        except PackageNotFoundError:
            releases.append("-")
    parts = [name.kind, name.name, dict(name.options), content, target_text(target), releases]
    meaning = json.dumps([_sources(), *parts])
    key = cache_key(blake2b(meaning.encode(), digest_size=16).hexdigest(), PER_STORE, "network")
    return cache_folder("networks") / f"{key}.npz"


def _keep(path: Path, network: NetworkFeatures) -> None:
    """Write beside and rename; a cache that cannot be written is none."""
    document = {
        "name": network.name,
        "graph": network.graph.as_json(),
        "kernels": [
            [kernel.name, kernel.key, kernel.weight, kernel.flop, kernel.workload]
            for kernel in network.kernels
        ],
        "layers": network.layers,
    }
    held = io.BytesIO()
    np.savez(
        held,
        document=json.dumps(document),
        graphs=graphs_to_json(network.graphs),
        rows=network.rows,
        row_offsets=network.row_offsets,
        graph_index=network.graph_index,
    )
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, held.getvalue())


def _read(path: Path) -> NetworkFeatures | None:
    """What is kept; None when there is nothing, or something damaged."""
    try:
        with np.load(path, allow_pickle=False) as found:
            document = json.loads(str(found["document"]))
            return NetworkFeatures(
                name=document["name"],
                graph=FusedGraph.from_json(document["graph"]),
                kernels=tuple(KernelFeatures(*values) for values in document["kernels"]),
                rows=found["rows"],
                row_offsets=found["row_offsets"],
                graphs=graphs_from_json(str(found["graphs"])),
                graph_index=found["graph_index"],
                layers={name: tuple(each) for name, each in document["layers"].items()},
                from_cache=True,
            )
    except Exception:  # damage to an archive can make its reader raise anything
        return None


def features_of(
    kernels: Sequence[KernelFeatures],
    schedules: Sequence[Schedule],
    target: Target,
    device: Device,
) -> list[KernelBatch]:
    """Features of a scheduled program of each of some kernels.

    Parameters
    ----------
    kernels : sequence of KernelFeatures
        The kernels.
    schedules : sequence of Schedule
        One of each.
    target : Target
        What they are for.
    device : Device
        What they run on.

    Returns
    -------
    list of KernelBatch
        Of one program each.
    """
    extractor = FeatureExtractor(programs_kept=0)
    found = []
    for kernel, schedule in zip(kernels, schedules, strict=True):
        context = meta_schedule.TuneContext(kernel.mod, target=target, num_threads=1)
        candidate = MeasureCandidate(schedule, [])
        task = Task(kernel.key, device)
        found.append(extractor.extract(context, [candidate], task, graphs=True))
    return found
