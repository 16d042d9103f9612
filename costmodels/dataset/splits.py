"""Splits of a data set into training, validation and test, by task, by network or by target.

A split is made once, saved in the data set as `splits/NAME.json`, and never within a task. Where it
is made by network, a workload that occurs in a test network is taken out of training and validation
wherever else it occurs, on whatever target: a network one has not seen has no kernel one has seen.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from costmodels.dataset.folder import StoredDataset
from costmodels.dataset.kernel_rows import TaskRow
from costmodels.errors import InputError
from costmodels.files import write_atomically
from costmodels.json_text import json_text, parse_json

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
FOLDER = "splits"
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Which tasks are learned, which choose between models, and which judge them.

    Parameters
    ----------
    name : str
        Of the file.
    by : str
        ``"task"``, ``"network"`` or ``"target"``.
    rule : mapping
        What it was made from: shares and seed, or patterns.
    train, validation, test : frozenset of str
        Keys of tasks; disjoint. A task in none of them was taken out.
    """

    name: str
    by: str
    rule: Mapping[str, Any]
    train: frozenset[str]
    validation: frozenset[str]
    test: frozenset[str]

    def __post_init__(self) -> None:
        parts = [getattr(self, part) for part in PARTS]
        if len(frozenset[str]().union(*parts)) != sum(map(len, parts)):
            raise InputError(f"a task must be in one part of split {self.name} only")

    def part(self, name: str) -> frozenset[str]:
        """Keys of the tasks of a part.

        Raises
        ------
        InputError
            When there is no such part.
        """
        if name not in PARTS:
            raise InputError(f"a part must be one of {', '.join(PARTS)}, got {name!r}")
        keys: frozenset[str] = getattr(self, name)
        return keys


def split_by_task(
    tasks: Mapping[str, TaskRow],
    *,
    name: str,
    rng: np.random.Generator,
    validation: float = 0.1,
    test: float = 0.2,
) -> Split:
    """Draw workloads; the tasks of one workload stay together.

    Parameters
    ----------
    tasks : mapping
        Key -> task.
    name : str
        Of the split.
    rng : numpy.random.Generator
        Draws.
    validation, test : float
        Shares of the workloads.

    Raises
    ------
    InputError
        When the shares leave no training.
    """
    if not (validation >= 0 and test > 0 and validation + test < 1):
        raise InputError(
            "test must be a share above 0, validation one of at least 0, and both together "
            f"below 1, got test {test:g} and validation {validation:g}"
        )
    workloads = np.array(sorted({task.workload_key for task in tasks.values()}))
    order = rng.permutation(workloads)
    tested = round(test * len(order))
    validated = round(validation * len(order))
    part = dict.fromkeys(order[:tested], "test")
    part |= dict.fromkeys(order[tested : tested + validated], "validation")
    rule = {"validation": validation, "test": test}
    return _split(
        name, "task", rule, {k: part.get(t.workload_key, "train") for k, t in tasks.items()}
    )


def split_by_network(
    tasks: Mapping[str, TaskRow],
    *,
    name: str,
    test: Sequence[str],
    validation: Sequence[str] = (),
) -> Split:
    """Hold out networks.

    Parameters
    ----------
    tasks : mapping
        Key -> task. One without a network is for training unless its workload is held out.
    name : str
        Of the split.
    test, validation : sequence of str
        Names of networks, or patterns such as ``efficientnet*``.

    Raises
    ------
    InputError
        When a pattern fits no network, or a network is asked for in both.
    """
    networks = sorted({network for task in tasks.values() for network in task.networks})
    tested = _matching(networks, test, "test")
    validated = _matching(networks, validation, "validation")
    if both := tested & validated:
        raise InputError(f"a network must be in one part, got {', '.join(sorted(both))} in two")
    test_workloads = _workloads(tasks.values(), tested)
    validation_workloads = _workloads(tasks.values(), validated) - test_workloads
    parts = {}
    for key, task in tasks.items():
        if task.networks.keys() & tested:
            parts[key] = "test"
        elif task.workload_key in test_workloads:
            continue  # the same workload on another target
        elif task.networks.keys() & validated:
            parts[key] = "validation"
        elif task.workload_key not in validation_workloads:
            parts[key] = "train"
    return _split(name, "network", {"test": list(test), "validation": list(validation)}, parts)


def split_by_target(
    tasks: Mapping[str, TaskRow],
    *,
    name: str,
    test: Sequence[str],
    validation: Sequence[str] = (),
) -> Split:
    """Hold out targets; their workloads may occur in training on other targets.

    Parameters
    ----------
    tasks : mapping
        Key -> task.
    name : str
        Of the split.
    test, validation : sequence of str
        Names of devices or patterns, or parts of a target's JSON.

    Raises
    ------
    InputError
        When a pattern fits no target.
    """
    parts = dict.fromkeys(tasks, "train")
    for wanted, part in ((validation, "validation"), (test, "test")):
        for pattern in wanted:
            fits = [
                k for k, t in tasks.items() if pattern in t.target or _fits(t.device.name, pattern)
            ]
            if not fits:
                names = sorted({task.device.name for task in tasks.values()})
                raise InputError(
                    f"{part} must name targets of the data set, got {pattern!r}: "
                    f"its devices are {', '.join(names)}"
                )
            parts |= dict.fromkeys(fits, part)
    return _split(name, "target", {"test": list(test), "validation": list(validation)}, parts)


def save_split(dataset: str | os.PathLike[str], split: Split) -> Path:
    """Write a split into its data set.

    Raises
    ------
    InputError
        When another split of that name is there, or the folder cannot be written.
    """
    if not _NAME.fullmatch(split.name):
        raise InputError(
            f"a split's name must be of letters, digits, '-', '_' and '.', got {split.name!r}"
        )
    path = Path(dataset) / FOLDER / f"{split.name}.json"
    content = {"by": split.by, "rule": dict(split.rule)}
    content |= {part: sorted(split.part(part)) for part in PARTS}
    text = json_text(content).encode()
    try:
        if path.exists() and path.read_bytes() != text:
            raise InputError(
                f"split {split.name} must be new, got one that exists in another form: models may "
                "have been trained with it; give another name"
            )
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text)
    except OSError as error:
        raise InputError(f"split {path} cannot be written: {error.strerror}") from None
    return path


def read_split(dataset: StoredDataset, name: str) -> Split:
    """Read a split of a data set.

    Raises
    ------
    InputError
        When it is missing, damaged, or names tasks that the data set lacks.
    """
    folder = dataset.path / FOLDER
    path = folder / f"{name}.json"
    try:
        content = parse_json(path.read_bytes())
        split = Split(
            name=name,
            by=content["by"],
            rule=content["rule"],
            **{part: frozenset(content[part]) for part in PARTS},
        )
    except OSError:
        known = sorted(file.stem for file in folder.glob("*.json"))
        hint = f"it has {', '.join(known)}" if known else "`costmodels dataset split` makes one"
        raise InputError(f"data set {dataset.path} must have split {name!r}: {hint}") from None
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} must be a split, got a damaged file: make it again") from None
    unknown = {key for part in PARTS for key in split.part(part)} - dataset.tasks.keys()
    if unknown:
        raise InputError(
            f"split {path} must be of this data set, got {len(unknown)} tasks that it lacks: "
            "make it again"
        )
    return split


def _split(name: str, by: str, rule: Mapping[str, Any], parts: Mapping[str, str]) -> Split:
    keys = {part: frozenset(k for k, own in parts.items() if own == part) for part in PARTS}
    for part in ("train", "test"):
        if not keys[part]:
            raise InputError(
                f"split {name} must leave tasks for {part}, got none: cut it by task, or name "
                "fewer networks or targets"
            )
    return Split(name, by, rule, **keys)


def _matching(networks: Iterable[str], patterns: Sequence[str], part: str) -> set[str]:
    networks = list(networks)
    found: set[str] = set()
    for pattern in patterns:
        fits = {network for network in networks if _fits(network, pattern)}
        if not fits:
            raise InputError(
                f"{part} must name networks of the data set, got {pattern!r}: "
                f"it has {', '.join(networks) or 'none'}"
            )
        found |= fits
    return found


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name.lower(), pattern.lower())


def _workloads(tasks: Iterable[TaskRow], networks: set[str]) -> set[str]:
    return {task.workload_key for task in tasks if task.networks.keys() & networks}
