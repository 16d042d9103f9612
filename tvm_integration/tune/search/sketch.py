"""A sketch of a design space, and its programs as rows of numbers."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from costmodels.kernel import FloatArray, IndexArray
from tvm_integration.compat import Instruction, Trace, tvm
from tvm_integration.identity import plain
from tvm_integration.tune.search.asking import NoProgramError
from tvm_integration.tune.search.variables import SAMPLED, Choice, Location, Tiling, Variable

PARALLEL = "meta_schedule.parallel"
"""Annotation: outer loops are fused until the parallel one has more iterations than it says."""
PARALLEL_JOBS = (4, 16, 64, 256)
"""Per core; TVM's sketches have 16, and its mutator tries others."""
VECTORIZE = "meta_schedule.vectorize"
"""Annotation: innermost loops of at most so many iterations become one vector."""
VECTOR_EXTENTS = (1, 8, 16, 32)
"""TVM's sketches have 64 alone, which leaves what is not tiled a single program. Of a formula of
many operations 64 values do not stay in registers. Where there are tiles their sizes do as much."""
OTHERS = {PARALLEL: 0.15, VECTORIZE: 0.3}
"""How often a drawn program gets another number than its sketch has."""


class Sketch:
    """One sketch: what is open in it, and how its decisions become a trace.

    Parameters
    ----------
    trace : Trace
        Of a design space, before post-processing.
    cores : int
        Of the target.
    """

    def __init__(self, trace: Trace, cores: int = 1) -> None:
        trace = trace.simplified(remove_postproc=True)
        self._instructions = list(trace.insts)
        self.variables: list[Variable] = []
        self._places: list[int] = []
        self.key = sketch_key(trace)
        kinds = {str(instruction.kind.name) for instruction in self._instructions}
        is_tiled = "SamplePerfectTile" in kinds
        for place, instruction in enumerate(self._instructions):
            if is_tiled and _annotation(instruction) == VECTORIZE:
                continue
            variable = _variable(instruction, trace.get_decision(instruction), cores)
            if variable is not None:
                self.variables.append(variable)
                self._places.append(place)
        levels: dict[int, list[int]] = defaultdict(list)
        for number, variable in enumerate(self.variables):
            if isinstance(variable, Tiling):
                levels[variable.parts].append(number)
        self._levels = tuple(tuple(each) for each in levels.values() if len(each) > 1)
        self.family = tuple((type(each).__name__, each.values) for each in self.variables)
        """Sketches of one family can take each other's decisions."""
        weights = np.array([each.weight for each in self.variables])
        self._weights = weights / weights.sum() if len(weights) else weights
        self._annotations: dict[tuple[int, int], Instruction] = {}

    def draw(self, count: int, rng: np.random.Generator) -> IndexArray:
        """Random decisions [count, variables]."""
        columns = [variable.draw(count, rng) for variable in self.variables]
        return np.column_stack(columns) if columns else np.zeros((count, 0), np.int64)

    def mutate(self, decisions: IndexArray, rng: np.random.Generator) -> IndexArray:
        """Change one decision of each row, of some rows more [rows, variables]."""
        found = decisions.copy()
        if not self.variables:
            return found
        left = np.ones(len(found), bool)
        while left.any():
            changed = rng.choice(len(self.variables), size=len(found), p=self._weights)
            for number, variable in enumerate(self.variables):
                rows = np.flatnonzero(left & (changed == number))
                if len(rows):
                    found[rows, number] = variable.near(found[rows, number], rng)
            left &= rng.random(len(found)) < 0.4
        return found

    def cross(
        self, decisions: IndexArray, others: IndexArray, rng: np.random.Generator
    ) -> IndexArray:
        """Take each decision from the one or the other row [rows, variables]."""
        return np.where(rng.random(decisions.shape) < 0.5, decisions, others)

    def features(self, decisions: IndexArray) -> FloatArray:
        """Numbers for a regression: those of the variables, and sizes of tiles level by level.

        Parameters
        ----------
        decisions : numpy.ndarray
            [rows, variables].

        Returns
        -------
        numpy.ndarray
            float32 [rows, columns]; the number of columns is that of the sketch.
        """
        own = [each.features(decisions[:, i]) for i, each in enumerate(self.variables)]
        # A tile of the whole: the product over all loops that are split alike.
        sums = [sum(own[i] for i in level) for level in self._levels]
        if not own:
            return np.zeros((len(decisions), 0), np.float32)
        return np.hstack([*own, *sums]).astype(np.float32)

    def is_sampled(self, decisions: IndexArray) -> bool:
        """Whether TVM decides something of a row of decisions, so that it gives many programs."""
        return any(
            isinstance(variable, Location) and value == SAMPLED
            for variable, value in zip(self.variables, decisions, strict=True)
        )

    def trace(self, decisions: IndexArray) -> Trace:
        """The trace of a row of decisions [variables]."""
        instructions = list(self._instructions)
        decided: dict[Instruction, Any] = {}
        for variable, place, value in zip(
            self.variables, self._places, decisions.tolist(), strict=True
        ):
            instruction = instructions[place]
            if isinstance(variable, Tiling):
                decided[instruction] = variable.options[value].tolist()
            elif isinstance(variable, Choice) and str(instruction.kind.name) == "Annotate":
                instructions[place] = self._annotated(place, variable.numbers[value])
            elif value != SAMPLED:
                decided[instruction] = value
        return Trace(instructions, decided)

    def read(self, trace: Trace) -> IndexArray | None:
        """The decisions of a trace of this sketch [variables]; None where it cannot have them.

        Locations that TVM drew are known then.
        """
        trace = trace.simplified(remove_postproc=True)
        instructions = list(trace.insts)
        found = []
        for variable, place in zip(self.variables, self._places, strict=True):
            value = _value(variable, instructions[place], trace)
            if value is None:
                return None
            found.append(value)
        return np.array(found, np.int64)

    def sizes(self, decisions: IndexArray) -> tuple[tuple[int, ...], ...]:
        """A row of decisions in terms that other shapes can use: sizes of tiles, or one number."""
        return tuple(
            variable.sizes(value)
            for variable, value in zip(self.variables, decisions.tolist(), strict=True)
        )

    def fitted(self, sizes: Sequence[Sequence[int]]) -> IndexArray | None:
        """The decisions closest to what `sizes` tells [variables]; None where it is of another."""
        if [len(each) for each in sizes] != [each.width for each in self.variables]:
            return None
        pairs = zip(self.variables, sizes, strict=True)
        return np.array([variable.nearest(each) for variable, each in pairs], np.int64)

    def _annotated(self, place: int, number: int) -> Instruction:
        key = (place, number)
        if key not in self._annotations:
            old = self._instructions[place]
            self._annotations[key] = Instruction(
                old.kind, [old.inputs[0], tvm.tirx.IntImm("int32", number)], old.attrs, old.outputs
            )
        return self._annotations[key]


def sketch_key(trace: Trace) -> str:
    """What is fixed in a sketch: the same for all traces of it, whatever the shapes and cores."""
    # TVM's evolution leaves out what has no effect; others do not.
    instructions, _ = plain(trace.simplified(remove_postproc=True).as_json())
    for name, inputs, attributes, _ in instructions:
        if name == "Annotate" and attributes[0] in OTHERS:
            inputs[1] = None
    text = json.dumps(instructions, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def sketches_of(spaces: list[Any], cores: int) -> Mapping[str, Sketch]:
    """Key -> sketch of each schedule of a design space."""
    return {sketch.key: sketch for sketch in (Sketch(each.trace, cores) for each in spaces)}


def _variable(instruction: Instruction, decision: Any, cores: int) -> Variable | None:
    kind = str(instruction.kind.name)
    if kind == "SamplePerfectTile":
        parts, max_innermost = (int(each) for each in instruction.attrs)
        extent = math.prod(int(each) for each in decision)
        if extent < 1:
            raise NoProgramError("the iterations of a loop are known only when it runs")
        return Tiling(extent, parts, max_innermost if max_innermost > 0 else extent)
    if kind == "SampleCategorical":
        numbers, probabilities = instruction.attrs
        return Choice(
            tuple(int(each) for each in numbers), tuple(float(each) for each in probabilities)
        )
    if kind == "SampleComputeLocation":
        return Location()
    if (name := _annotation(instruction)) in OTHERS:
        usual = int(instruction.inputs[1])
        others = VECTOR_EXTENTS if name == VECTORIZE else [cores * jobs for jobs in PARALLEL_JOBS]
        numbers = sorted({usual, *others})
        each = OTHERS[name] / max(1, len(numbers) - 1)
        shares = [1 - OTHERS[name] if number == usual else each for number in numbers]
        return Choice(tuple(numbers), tuple(shares))
    return None


def _annotation(instruction: Instruction) -> str:
    """Name of the annotation that it makes; "" for any other."""
    return str(instruction.attrs[0]) if str(instruction.kind.name) == "Annotate" else ""


def _value(variable: Variable, instruction: Instruction, trace: Trace) -> int | None:
    decision = trace.get_decision(instruction)
    if isinstance(variable, Tiling):
        return None if decision is None else variable.value_of([int(each) for each in decision])
    if isinstance(variable, Location):
        if decision is None:
            return SAMPLED
        variable.note(int(decision))
        return int(decision)
    if isinstance(variable, Choice) and str(instruction.kind.name) == "Annotate":
        number = int(instruction.inputs[1])
        return variable.numbers.index(number) if number in variable.numbers else None
    return None if decision is None else int(decision)
