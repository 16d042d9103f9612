"""Known schedules -> decisions of the sketches of another kernel."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

import numpy as np

from costmodels.errors import InputError
from costmodels.kernel import IndexArray
from tvm_integration.compat import IRModule, Target
from tvm_integration.identity import target_text, workload_hash
from tvm_integration.records.schedule_library import KnownSchedule, ScheduleLibrary
from tvm_integration.targets import device_of
from tvm_integration.tir.blocks import Block, leaf_blocks
from tvm_integration.tune.search.sketch import Sketch

OTHER_DEVICE = 0.5
"""What another device counts, where 1 is a factor of 2 in one loop."""
OTHER_VECTORS = 2.0
"""What vectors of another width count."""


@dataclass(frozen=True)
class KernelPlace:
    """A kernel and where it runs, as a library compares them.

    Parameters
    ----------
    mod : IRModule
        The workload.
    target : Target
        What it is for.
    """

    mod: IRModule
    target: Target

    @cached_property
    def workload(self) -> str:
        """Hash of the kernel."""
        return f"{workload_hash(self.mod):016x}"

    @cached_property
    def extents(self) -> tuple[int, ...]:
        """Iterations of its blocks, in order."""
        found: list[int] = []
        for function in self.mod.functions.values():
            for realize in leaf_blocks(function.body):
                block = Block.of(realize)
                found += [*block.spatial.values(), *block.reduction.values()]
        return tuple(found)

    @cached_property
    def device(self) -> tuple[str, int, int]:
        """Name, cores, bits of a vector; of a device that is not at hand what its target says."""
        try:
            device = device_of(self.target)
        except InputError:
            return target_text(self.target), int(self.target.attrs.get("num-cores") or 1), 0
        return device.name, device.cores, device.vector_bits

    def distance(self, schedule: KnownSchedule) -> float:
        """How little a schedule fits: the factors between the loops, and another device."""
        if len(schedule.extents) != len(self.extents):
            return math.inf
        name, _, vector_bits = self.device
        both = np.array([schedule.extents, self.extents], np.float64)
        loops = float(np.abs(np.diff(np.log2(np.maximum(both, 1.0)), axis=0)).sum())
        apart = OTHER_DEVICE if schedule.device != name else 0.0
        return loops + apart + (OTHER_VECTORS if schedule.vector_bits != vector_bits else 0.0)

    def known(self, sketch: Sketch, decisions: IndexArray, latency_s: float) -> KnownSchedule:
        """What is kept of a program that was measured."""
        name, cores, vector_bits = self.device
        return KnownSchedule(
            sketch=sketch.key,
            workload=self.workload,
            extents=self.extents,
            decisions=sketch.sizes(decisions),
            latency_s=latency_s,
            device=name,
            cores=cores,
            vector_bits=vector_bits,
            tvm=version("apache-tvm"),
        )


def fitting(
    library: ScheduleLibrary, place: KernelPlace, sketches: Mapping[str, Sketch], count: int
) -> list[tuple[Sketch, IndexArray]]:
    """Decisions that were good for this kernel or those most like it, the most alike first.

    Parameters
    ----------
    library : ScheduleLibrary
        What is known.
    place : KernelPlace
        The kernel, and where it runs.
    sketches : mapping
        Key -> sketch of the kernel.
    count : int
        Rows at most.

    Returns
    -------
    list of (Sketch, numpy.ndarray)
        And the decisions [variables], each once, the user's own before those that ship.
        Post-processors may refuse some.
    """
    known = [
        (is_shipped, each.latency_s, sketch, each)
        for key, sketch in sketches.items()
        for is_shipped, schedules in enumerate(library.of_sketch(key))
        for each in schedules
    ]
    ranks: Counter[tuple[str, str, int]] = Counter()
    ranked: list[tuple[float, int, Sketch, KnownSchedule]] = []
    for _, _, sketch, schedule in sorted(known, key=lambda each: each[:2]):
        kernel = (schedule.workload, schedule.device, schedule.cores)
        distance = place.distance(schedule)
        if distance < math.inf:
            # A third best of this kernel may tell less than the best of its neighbor.
            ranked.append((distance + ranks[kernel], len(ranked), sketch, schedule))
        ranks[kernel] += 1
    found: list[tuple[Sketch, IndexArray]] = []
    seen: set[tuple[str, bytes]] = set()
    for _, _, sketch, schedule in sorted(ranked, key=lambda each: each[:2]):
        if len(found) == count:
            break
        decisions = sketch.fitted(schedule.decisions)
        if decisions is not None and (sketch.key, decisions.tobytes()) not in seen:
            seen.add((sketch.key, decisions.tobytes()))
            found.append((sketch, decisions))
    return found
