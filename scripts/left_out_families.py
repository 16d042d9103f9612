"""Models that learned no kernel of some families of networks, and how far off they are on these.

For `benchmark_network.py`, whose test families no model sees, and for `train_shipped.py`. Networks
of the other families whose numbers are multiples of `CALIBRATION_SHARE` are left out of training
too: they calibrate.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from benchmark_results import Results
from collect_cpu import run
from collect_networks import CALIBRATION_SHARE

from costmodels.dataset.folder import StoredDataset, read_dataset
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.dataset.network_rows import NetworkRow
from costmodels.kernel import KernelDataset, concatenate
from costmodels.kernel_models.ensemble import MEMBERS
from costmodels.network_models.kernel_sums import MeasuredNetwork
from costmodels.network_models.overheads import NO_OVERHEADS, Overheads
from costmodels.network_models.overheads_fit import fit_overheads
from costmodels.network_models.unseen_families import (
    UnseenFamilies,
    coverage_left_out,
    factor_of_all,
    factor_that_holds,
)
from costmodels.registry import new_kernel_model
from tvm_integration.collect.featurize import featurize
from tvm_integration.estimate.measured_networks import measured_networks
from tvm_integration.zoo import zoo_families

KERNELS = ("shipped:cpu", "shipped:cpu_one_core")
NETWORKS = "shipped:networks"
CHOSEN = "shipped:chosen_networks"
"""Judges and calibrates only: no model learns its programs."""
FOLDS = 4
MIN_NETWORKS = 4
"""To fit overheads on."""

Families = frozenset[str]


@dataclass(frozen=True)
class Case:
    """Networks of one kind: a target, schedules, fused or not."""

    name: str
    target: str
    schedules: str
    fused: bool

    def rows(self) -> list[NetworkRow]:
        """Its networks."""
        wanted = (self.target, self.schedules, self.fused)
        return [r for r in stored().networks if (r.target, r.schedules, r.fused) == wanted]


@functools.cache
def stored() -> StoredDataset:
    """All networks there are."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "networks"
        run(["dataset", "merge", NETWORKS, CHOSEN, "--out", str(path)])
        return read_dataset(path)


def cases() -> list[Case]:
    """All kinds of networks there are, those with most first."""
    counts: dict[tuple[str, str, bool], int] = {}
    devices = {}
    for row in stored().networks:
        key = row.target, row.schedules, row.fused
        counts[key] = counts.get(key, 0) + 1
        cores = "one core" if row.device.cores == 1 else f"{row.device.cores} cores"
        devices[row.target] = f"{cores}, vectors of {row.device.vector_bits} bits"
    return [
        Case(
            f"{devices[target]}, {schedules} schedules{'' if fused else ', unfused'}",
            target,
            schedules,
            fused,
        )
        for target, schedules, fused in sorted(counts, key=lambda each: -counts[each])
    ]


def calibrates(row: NetworkRow, left_out: Families) -> bool:
    """Whether a network of a family that is not left out calibrates; the same for every case."""
    number = int(row.network.rpartition("=")[2])
    return row.family not in left_out and number % CALIBRATION_SHARE == 0


def _is_learned(
    tasks: Mapping[str, TaskRow], held_out: AbstractSet[str], record: RecordRow
) -> bool:
    return tasks[record.task].workload_key not in held_out


@functools.lru_cache(maxsize=1)
def training_kernels(left_out: Families) -> KernelDataset:
    """Kernels to learn from: those of no network that is left out or calibrates."""
    tasks_of_networks = stored().tasks
    held_out = {
        tasks_of_networks[key].workload_key
        for row in stored().networks
        if row.family in left_out or calibrates(row, left_out)
        for key in row.tasks
    }
    parts = []
    for name in (*KERNELS, NETWORKS):
        dataset = read_dataset(name)
        tasks = dataset.tasks
        parts.append(featurize(dataset).select(functools.partial(_is_learned, tasks, held_out)))
    return KernelDataset(
        concatenate([part.batch for part in parts]),
        tuple(measurement for part in parts for measurement in part.measurements),
    )


@functools.cache
def trained(name: str, seed: int, left_out: Families) -> Any:
    """A kernel model that learned from `training_kernels`, as a member of the ensemble if it is."""
    if name in MEMBERS:
        return trained("ensemble", seed, left_out).members[MEMBERS.index(name)]
    rng = np.random.default_rng(seed)
    return new_kernel_model(name, rng=rng).fit(training_kernels(left_out), rng=rng)


@functools.lru_cache(maxsize=1)
def known_networks(name: str, seed: int, left_out: Families) -> list[MeasuredNetwork]:
    """All networks of the data set, as a model sees them; no model is named ``measured``."""
    model = None if name == "measured" else trained(name, seed, left_out)
    return measured_networks(stored(), model)


def networks_of(
    rows: Sequence[NetworkRow], known: Sequence[MeasuredNetwork]
) -> list[MeasuredNetwork]:
    """Those of some rows of `stored`."""
    place = {row.identity: number for number, row in enumerate(stored().networks)}
    return [known[place[row.identity]] for row in rows]


def fitted_overheads(case: Case, known: Sequence[MeasuredNetwork], left_out: Families) -> Overheads:
    """What a sum leaves out, from the networks of a kind that calibrate; nothing from too few."""
    rows = [row for row in case.rows() if calibrates(row, left_out)]
    whole = [
        n for n in networks_of(rows, known) if n.measured.keys() >= n.graph.counts("kernel").keys()
    ]
    return fit_overheads(whole) if len(whole) >= MIN_NETWORKS else NO_OVERHEADS


def folds(test: Families) -> Iterator[Families]:
    """Families that do not test, in parts."""
    families = sorted(set(zoo_families()) - test)
    for part in np.array_split(families, FOLDS):
        yield frozenset(map(str, part))


FactorsOfCases = Mapping[str, Sequence[tuple[float, str]]]
"""Name of a case -> the factor that holds each of its networks, and the family of that."""


def factors_of_fold(name: str, seed: int, test: Families, fold: Families) -> FactorsOfCases:
    """How far a model is off on networks of families left out; a model without intervals: nothing.

    Parameters
    ----------
    name, seed
        Of the model.
    test : frozenset of str
        Families that nothing is learned from.
    fold : frozenset of str
        Those left out this time.
    """
    left_out = test | fold
    found: dict[str, list[tuple[float, str]]] = {}
    if not trained(name, seed, left_out).claims.interval:
        return found
    known = known_networks(name, seed, left_out)
    for case in cases():
        overheads = fitted_overheads(case, known, left_out)
        rows = [row for row in case.rows() if row.family in fold]
        for row, network in zip(rows, networks_of(rows, known), strict=True):
            if network.predicted.keys() >= network.graph.counts("kernel").keys():
                holds = factor_that_holds(network, overheads)
                found.setdefault(case.name, []).append((holds, row.family))
    return found


def factors_of_all(folds: Sequence[FactorsOfCases]) -> dict[str, UnseenFamilies]:
    """How far a model is off on unseen families, by the name of the case, from all folds."""
    found = {}
    for case in cases():
        pairs = [pair for fold in folds for pair in fold.get(case.name, ())]
        factors, families = [each for each, _ in pairs], [family for _, family in pairs]
        if len(set(families)) > 1:  # of one alone, nothing tells of others
            device = case.rows()[0].device
            found[case.name] = UnseenFamilies(
                device.cores,
                device.vector_bits,
                case.schedules,
                factor_of_all(factors, families),
                len(factors),
                coverage_left_out(factors, families),
            )
    return found


def learn_factors(
    results: Results, names: Sequence[str], test: Families
) -> dict[str, dict[str, UnseenFamilies]]:
    """By the name of a model, then of a case; each fold is kept when it is done.

    Parameters
    ----------
    results : Results
        Where; what is in it is not learned again.
    names : sequence of str
        Models; they are trained with seed 0.
    test : frozenset of str
        Families that nothing is learned from.
    """
    parts: dict[str, list[FactorsOfCases]] = {name: [] for name in names}
    for fold in folds(test):
        for name in names:
            found = results.get(
                f"{name} | without {', '.join(sorted(fold))}",
                factors_of_fold,
                name,
                0,
                test,
                fold,
            )
            parts[name].append(found)
        trained.cache_clear()  # each takes much memory
        known_networks.cache_clear()
    return {name: factors_of_all(each) for name, each in parts.items()}
