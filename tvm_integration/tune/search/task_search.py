"""The search of one task: draw, sift, make, judge, choose."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from costmodels.checks import check_fields
from costmodels.errors import InputError
from costmodels.kernel import FloatArray, IndexArray, Measured
from tvm_integration.compat import MeasureCandidate, RunnerResult, Schedule, meta_schedule
from tvm_integration.identity import record_hash
from tvm_integration.measure.outcomes import measurement_of
from tvm_integration.records.schedule_library import ScheduleLibrary
from tvm_integration.tune.search.asking import NoProgramError
from tvm_integration.tune.search.library import KernelPlace, fitting
from tvm_integration.tune.search.programs import Program, ProgramMaker
from tvm_integration.tune.search.sketch import Sketch, sketch_key, sketches_of
from tvm_integration.tune.search.spread import Place, spread_out
from tvm_integration.tune.search.surrogate import Surrogate


@dataclass(frozen=True)
class Effort:
    """How much is searched for a batch.

    Parameters
    ----------
    first : int
        Programs drawn at random before the first batch.
    known : int
        Schedules of a library that are fitted to the kernel before the first batch.
    rounds, per_round : int
        How often the best are varied before each batch, and how many programs become of it.
    rows : int
        Decisions that the surrogate sifts in each round.
    parents : int
        Programs that are varied.
    fresh : float
        Share of the programs of a round, and of a batch, that are chosen at random.
    drawn : float
        Share of the programs of a round that are drawn rather than varied; the most promising.
    apart : float
        How far the programs of a batch, and of a round, differ at least: 4 is a factor of 2 that
        goes from one level of tiles to another, if enough of them differ as much.
    far, far_apart : float
        Share of the programs of a batch that must differ so much from all given before: the most
        promising of these.

    Raises
    ------
    InputError
        A number that is negative, a share above 1, or no rows or parents.
    """

    first: int = 48
    known: int = 24
    rounds: int = 3
    per_round: int = 24
    rows: int = 1024
    parents: int = 32
    fresh: float = 0.2
    drawn: float = 0.4
    apart: float = 4.0
    far: float = 0.25
    far_apart: float = 12.0

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("first", "known", "rounds", "per_round", "apart", "far_apart"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("rows", "parents"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("fresh", "drawn", "far"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be from 0 to 1, got {getattr(self, name)}")


DEFAULT_EFFORT = Effort()
Row = tuple[Sketch, IndexArray]
"""A program that is not made yet: its decisions [variables]."""
RELATIVES = 0.3
"""How many variants may come from the sketches of a family, for each of the sketch's own."""
KEPT = 512
"""Programs that are remembered to learn from and to vary."""
RESCORED = 96
"""Of them, those judged again when the cost model has learned."""
MAX_DRAWS = 64
"""Attempts to draw as many programs as are wanted; post-processors for GPUs refuse most."""
KNOWN_PART = 2
"""Of the first batch so large a part may be schedules of the library: the half."""
MAX_IDLE_DRAWS = 3
"""Of them in a row, those that give nothing but programs made before: the space is small."""


class TaskSearch:
    """The search of one task.

    Parameters
    ----------
    context : TuneContext
        Its workload, target, post-processors, seed and number of threads are used.
    spaces : list of Schedule
        The sketches of the design space.
    cost_model : CostModel
        Any of MetaSchedule's.
    effort : Effort
        How much is searched for a batch.
    measured : collection of int
        Programs that need not be given, from `measured_programs`.
    library : ScheduleLibrary, optional
        Known schedules to begin with, to which the best that are measured are added.
    """

    def __init__(
        self,
        context: meta_schedule.TuneContext,
        spaces: list[Schedule],
        cost_model: Any,
        effort: Effort,
        measured: Collection[int],
        library: ScheduleLibrary | None = None,
    ) -> None:
        self._context = context
        self._cost_model = cost_model
        self._effort = effort
        self._before = measured
        self._rng = np.random.default_rng(int(context.rand_state) & (2**31 - 1))
        threads = int(context.num_threads)
        cores = int(context.target.attrs.get("num-cores") or 1)
        self._sketches = dict(sketches_of(spaces, cores))
        self._maker = ProgramMaker(
            context.mod, context.space_generator.postprocs, threads, self._rng
        )
        self._surrogate = Surrogate(self._sketches, int(self._rng.integers(2**31)))
        self._tried: set[tuple[str, bytes]] = set()
        self._programs: list[Program] = []
        self._utility: FloatArray = np.empty(0)
        self._given: set[int] = set()
        self._given_at: list[Place] = []
        self._latency_s: dict[int, float] = {}
        self._asked: dict[int, Program] = {}
        self._seeds: list[Row] = []
        self._library = library
        self._place = KernelPlace(context.mod, context.target)

    def begin_with(self, database: Any) -> None:
        """Begin with the best programs that a database has of the workload."""
        if not database.has_workload(self._context.mod):
            return
        workload = database.commit_workload(self._context.mod)
        for record in database.get_top_k(workload, self._effort.parents):
            sketch = self._sketches.get(sketch_key(record.trace))
            decisions = None if sketch is None else sketch.read(record.trace)
            if sketch is not None and decisions is not None:
                self._seeds.append((sketch, decisions))

    def batch(self, count: int) -> list[MeasureCandidate]:
        """The next programs to measure, at most so many."""
        known: list[Program] = []
        if self._programs:
            self._score_again()
        else:
            self._add(self._seeds)
            known = self._add(self._known())
            self._draw(max(count, self._effort.first))
        if not self._programs:
            raise NoProgramError(f"none of {self._maker.refused} programs could be made")
        if np.ptp(self._utility) > 0:
            for _ in range(self._effort.rounds):
                self._add(self._varied())
        sure = [program for program in known if self._is_new(program)][: count // KNOWN_PART]
        found = self._chosen(count, sure)
        if len(found) < count:  # nothing is known, or the space is nearly exhausted
            self._draw(2 * (count - len(found)))
            found = self._chosen(count, sure)
        self._given |= {program.identity for program in found}
        self._given_at += [_place(self._sketches[p.sketch], p.decisions) for p in found]
        self._asked |= {_address(program.candidate): program for program in found}
        self._forget()
        return [program.candidate for program in found]

    def learn(
        self, candidates: Sequence[MeasureCandidate], results: Sequence[RunnerResult]
    ) -> None:
        """Note latencies."""
        for candidate, result in zip(candidates, results, strict=False):
            program = self._asked.pop(_address(candidate), None)
            measurement = measurement_of(result.run_secs)
            if program is not None and isinstance(measurement, Measured):
                self._latency_s[program.identity] = measurement.latency_s
                if self._library is not None:
                    sketch = self._sketches[program.sketch]
                    self._library.add(
                        self._place.known(sketch, program.decisions, measurement.latency_s)
                    )

    def _known(self) -> list[Row]:
        """What the library has for this kernel and those like it."""
        if self._library is None:
            return []
        return fitting(self._library, self._place, self._sketches, self._effort.known)

    def _draw(self, wanted: int) -> None:
        """Add so many random programs, if there are any: of some spaces few can be made."""
        wanted += len(self._programs)
        idle = 0
        for _ in range(MAX_DRAWS):
            missing = wanted - len(self._programs)
            if missing <= 0 or idle == MAX_IDLE_DRAWS:
                return
            before = len(self._programs), self._maker.refused
            self._add(self._drawn(max(missing, len(self._sketches))))
            idle = idle + 1 if (len(self._programs), self._maker.refused) == before else 0

    def _drawn(self, count: int) -> list[Row]:
        """Random decisions, the same number of each sketch."""
        found: list[Row] = []
        sketches = list(self._sketches.values())
        for number in self._rng.permutation(len(sketches)):
            share = -(-count // len(sketches))
            found += self._untried(sketches[number], sketches[number].draw(share, self._rng))
        return found[:count]

    def _untried(self, sketch: Sketch, rows: IndexArray) -> list[Row]:
        """Rows that were not tried before, each once, noted as tried."""
        found = []
        for row in rows:
            key = (sketch.key, row.tobytes())
            if key not in self._tried or sketch.is_sampled(row):
                self._tried.add(key)
                found.append((sketch, row))
        return found

    def _varied(self) -> list[Row]:
        """The most promising of many new decisions: variants of the best, and random ones."""
        effort = self._effort
        self._surrogate.learn(self._programs, self._utility)
        parents = self._parents()
        drawn: list[Row] = []
        varied: list[Row] = []
        for sketch in self._sketches.values():
            share = effort.rows // (2 * len(self._sketches)) + 1
            drawn += self._unknown(sketch, sketch.draw(share, self._rng))
            varied += self._unknown(sketch, self._children(sketch, parents))
        wanted = round(effort.drawn * effort.per_round)
        found = self._promising(drawn, wanted)
        found += self._promising(varied, effort.per_round - len(found))
        self._tried |= {(sketch.key, row.tobytes()) for sketch, row in found}
        return found

    def _children(self, sketch: Sketch, parents: Sequence[Program]) -> IndexArray:
        """Mutated, crossed and both: decisions of the sketch's best and of its relatives'."""
        own = [p.decisions for p in parents if p.sketch == sketch.key]
        others = [
            p.decisions
            for p in parents
            if p.sketch != sketch.key and self._sketches[p.sketch].family == sketch.family
        ]
        made = [np.empty((0, len(sketch.variables)), np.int64)]
        for known, share in ((own, 1.0), (own + others, RELATIVES)):
            count = round(self._effort.rows / 2 * share * len(known) / len(parents))
            if known and count:
                rows = np.array(known)
                first, second = (rows[self._rng.integers(len(rows), size=count)] for _ in range(2))
                crossed = sketch.cross(first[: count // 3], second[: count // 3], self._rng)
                made += [sketch.mutate(first, self._rng), sketch.mutate(crossed, self._rng)]
        return np.concatenate(made)

    def _unknown(self, sketch: Sketch, rows: IndexArray) -> list[Row]:
        """Rows that were not tried, each once."""
        return [
            (sketch, row)
            for row in np.unique(rows, axis=0)
            if (sketch.key, row.tobytes()) not in self._tried
        ]

    def _promising(self, rows: Sequence[Row], count: int) -> list[Row]:
        """Those that the surrogate expects most of, not all alike, and some by chance."""
        if not rows or count <= 0:
            return []
        guesses = [
            self._surrogate.predict(self._sketches[key], np.array([row for _, row in own]))
            for key, own in groupby(rows, key=lambda row: row[0].key)
        ]
        order = np.argsort(-np.concatenate(guesses), kind="stable").tolist()
        by_chance = round(self._effort.fresh * count)
        picked = self._spread(rows, order, count - by_chance)
        rest = [number for number in order if number not in set(picked)]
        picked += self._rng.permutation(rest)[:by_chance].astype(int).tolist()
        return [rows[number] for number in picked]

    def _spread(self, rows: Sequence[Row], order: Sequence[int], count: int) -> list[int]:
        """The first that are not all alike; where these are too few, others."""
        order = order[: 8 * count]
        places = {n: _place(*rows[n]) for n in order}
        found = spread_out(order, places, count, self._effort.apart)
        return found + [n for n in order if n not in set(found)][: count - len(found)]

    def _parents(self) -> list[Program]:
        """The best by the cost model, and by what was measured; better ones more often."""
        order = np.argsort(-self._utility, kind="stable")[: self._effort.parents]
        found = [self._programs[number] for number in order]
        measured = [p for p in self._programs if p.identity in self._latency_s]
        measured.sort(key=lambda p: self._latency_s[p.identity])
        found += measured[: self._effort.parents // 4]
        # Each as often as those that follow it: the first half counts twice, the first quarter
        # three times.
        return found + found[: len(found) // 2] + found[: len(found) // 4]

    def _add(self, wanted: Sequence[Row]) -> list[Program]:
        """Make programs and ask the cost model; those that were made."""
        made = self._maker.make(wanted)
        if made:
            utility = self._scored(made)
            self._programs += made
            self._utility = np.concatenate([self._utility, utility])
        return made

    def _scored(self, programs: Sequence[Program]) -> FloatArray:
        """What the cost model says [programs]: logarithms of its scores."""
        candidates = [each.candidate for each in programs]
        scores = np.asarray(self._cost_model.predict(self._context, candidates), np.float64)
        if scores.shape != (len(candidates),):
            raise InputError(
                f"a cost model must give one score per candidate, {len(candidates)} of them, got "
                f"an array of shape {scores.shape}"
            )
        return np.log(np.maximum(np.nan_to_num(scores), 1e-12))

    def _score_again(self) -> None:
        """The best, by a model that has learned since."""
        order = np.argsort(-self._utility, kind="stable")[:RESCORED]
        if len(order):
            before = self._utility[order]
            now = self._scored([self._programs[number] for number in order])
            # Those not judged again move with the others.
            self._utility = self._utility + np.median(now - before)
            self._utility[order] = now

    def _chosen(self, count: int, sure: Sequence[Program] = ()) -> list[Program]:
        """The best that were not given before, the best far from those, and some by chance."""
        effort = self._effort
        count -= len(sure)
        order = np.argsort(-self._utility, kind="stable")
        taken = {program.identity for program in sure}
        programs = [self._programs[n] for n in order]
        free = [p for p in programs if p.identity not in taken and self._is_new(p)]
        rows = [(self._sketches[p.sketch], p.decisions) for p in free]
        places = {n: _place(*row) for n, row in enumerate(rows)}
        far = spread_out(
            range(len(free)), places, round(effort.far * count), effort.far_apart, self._given_at
        )
        by_chance = int(self._rng.binomial(count, effort.fresh))
        near = [n for n in range(len(free)) if n not in set(far)]
        chosen = far + self._spread(rows, near, max(0, count - by_chance - len(far)))
        rest = [n for n in range(len(free)) if n not in set(chosen)]
        chosen += self._rng.permutation(rest)[: count - len(chosen)].astype(int).tolist()
        return [*sure, *(free[number] for number in chosen)]

    def _is_new(self, program: Program) -> bool:
        if program.identity in self._given or program.identity in self._before:
            return False
        trace = record_hash(self._context.mod, program.candidate.sch.trace)
        return trace not in self._before if self._before else True

    def _forget(self) -> None:
        """Keep the best, and those measured."""
        if len(self._programs) <= KEPT:
            return
        order = np.argsort(-self._utility, kind="stable")
        kept = [
            number
            for place, number in enumerate(order)
            if place < KEPT or self._programs[number].identity in self._latency_s
        ]
        self._programs = [self._programs[number] for number in kept]
        self._utility = self._utility[kept]


def _place(sketch: Sketch, decisions: IndexArray) -> Place:
    return sketch.key, sketch.features(decisions[None])[0]


def _address(candidate: MeasureCandidate) -> int:
    """Of TVM's object: a candidate comes back from TVM as another object of Python."""
    return int(candidate.__chandle__())
