"""What a sketch leaves open: tile sizes, choices, compute locations and the width of `parallel`.

The values of a variable are numbers, so that decisions of thousands of programs are one array.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from costmodels.kernel import FloatArray, IndexArray

MAX_TILINGS = 20_000
"""Of a loop; of the few loops with more a random part is searched."""
SAMPLED = -3
"""A compute location that TVM draws: which ones there are is known only once a trace is applied."""
ROOT = -1
"""The compute location outside of all loops; -2 is into the consumers, others are loops."""


class Variable(Protocol):
    """An open value of a sketch."""

    @property
    def weight(self) -> float:
        """How often it is changed, among the others of its sketch."""
        ...

    @property
    def values(self) -> tuple[int, ...]:
        """What it ranges over: variables with the same can take each other's values."""
        ...

    def draw(self, count: int, rng: np.random.Generator) -> IndexArray:
        """Random values [count]."""
        ...

    def near(self, values: IndexArray, rng: np.random.Generator) -> IndexArray:
        """For each value another one close to it, or the same where there is no other [count]."""
        ...

    def features(self, values: IndexArray) -> FloatArray:
        """Numbers for a regression [count, columns]."""
        ...

    @property
    def width(self) -> int:
        """How many numbers `sizes` gives."""
        ...

    def sizes(self, value: int) -> tuple[int, ...]:
        """What a value stands for, whatever the loops: for `nearest` of another kernel."""
        ...

    def nearest(self, sizes: Sequence[int]) -> int:
        """The value closest to what those of another kernel stand for."""
        ...


@dataclass(frozen=True)
class Tiling:
    """How a loop is split into nested ones; a value is a row of `options`.

    Parameters
    ----------
    extent, parts : int
        Iterations of the loop, and into how many loops it is split.
    max_innermost : int
        Most iterations of the innermost.
    """

    extent: int
    parts: int
    max_innermost: int

    weight: float = field(default=1.0, init=False)

    @property
    def values(self) -> tuple[int, ...]:
        """Those of the parameters."""
        return (self.extent, self.parts, self.max_innermost)

    @cached_property
    def options(self) -> IndexArray:
        """All tilings: int64 [options, parts], whose products are the extent."""
        columns = [np.ones((1, self.parts), np.int64)]
        rng = np.random.default_rng(self.extent)
        for prime, power in _prime_powers(self.extent).items():
            # Ways to give `power` equal primes to the parts: bars between stars.
            bars = itertools.combinations(range(power + self.parts - 1), self.parts - 1)
            stars = [np.diff([-1, *each, power + self.parts - 1]) - 1 for each in bars]
            columns.append(prime ** np.array(stars, np.int64).reshape(-1, self.parts))
        found = columns[0]
        for own in columns[1:]:
            found = (found[:, None, :] * own[None, :, :]).reshape(-1, self.parts)
            found = found[found[:, -1] <= self.max_innermost]
            if len(found) > MAX_TILINGS:
                found = found[rng.choice(len(found), MAX_TILINGS, replace=False)]
        return found

    @cached_property
    def _position(self) -> dict[tuple[int, ...], int]:
        return {tuple(each): row for row, each in enumerate(self.options.tolist())}

    @cached_property
    def _logs(self) -> FloatArray:
        return np.log2(self.options)

    @cached_property
    def _near(self) -> dict[int, IndexArray]:
        return {}

    def draw(self, count: int, rng: np.random.Generator) -> IndexArray:
        """All alike probable."""
        return rng.integers(len(self.options), size=count)

    def near(self, values: IndexArray, rng: np.random.Generator) -> IndexArray:
        """Some factor of a part goes to another part."""
        found = values.copy()
        for number, value in enumerate(values.tolist()):
            others = self._neighbours(value)
            if len(others):
                found[number] = others[rng.integers(len(others))]
        return found

    def _neighbours(self, value: int) -> IndexArray:
        if value not in self._near:
            sizes = self.options[value].tolist()
            found = []
            for giver, taker in itertools.permutations(range(self.parts), 2):
                for factor in _divisors(sizes[giver]):
                    moved = list(sizes)
                    moved[giver] //= factor
                    moved[taker] *= factor
                    found.append(self._position.get(tuple(moved), value))
            self._near[value] = np.array([each for each in found if each != value], np.int64)
        return self._near[value]

    def features(self, values: IndexArray) -> FloatArray:
        """Logarithms of the sizes."""
        return self._logs[values]

    def value_of(self, sizes: Sequence[int]) -> int | None:
        """The value of given sizes; None where it is not among the options."""
        return self._position.get(tuple(sizes))

    @property
    def width(self) -> int:
        """A size of each part."""
        return self.parts

    def sizes(self, value: int) -> tuple[int, ...]:
        """Iterations of each part."""
        return tuple(self.options[value].tolist())

    def nearest(self, sizes: Sequence[int]) -> int:
        """The value whose sizes are closest to others, that may be of another extent."""
        if (same := self.value_of(sizes)) is not None:
            return same
        wanted = np.log2(np.maximum(np.array(sizes, np.float64), 1.0))
        # Inner sizes count: what is left over goes to the outermost loop.
        return int(np.argmin(np.abs(self._logs[:, 1:] - wanted[1:]).sum(axis=1)))


@dataclass(frozen=True)
class Choice:
    """One of some numbers; a value is its position.

    Parameters
    ----------
    numbers : tuple of int
        As the design space has them.
    probabilities : tuple of float
        Of drawing each.
    """

    numbers: tuple[int, ...]
    probabilities: tuple[float, ...]

    weight: float = field(default=0.5, init=False)

    @property
    def values(self) -> tuple[int, ...]:
        """The numbers."""
        return self.numbers

    def draw(self, count: int, rng: np.random.Generator) -> IndexArray:
        """As probable as it is said to be."""
        share = np.array(self.probabilities) / sum(self.probabilities)
        return rng.choice(len(self.numbers), size=count, p=share)

    def near(self, values: IndexArray, rng: np.random.Generator) -> IndexArray:
        """Any other."""
        if len(self.numbers) < 2:
            return values.copy()
        away = rng.integers(1, len(self.numbers), size=len(values))
        return (values + away) % len(self.numbers)

    def features(self, values: IndexArray) -> FloatArray:
        """The logarithm of the number, with its sign."""
        return _signed_logarithms(np.array(self.numbers, np.float64))[values][:, None]

    @property
    def width(self) -> int:
        """The number."""
        return 1

    def sizes(self, value: int) -> tuple[int, ...]:
        """The number."""
        return (self.numbers[value],)

    def nearest(self, sizes: Sequence[int]) -> int:
        """By the logarithm."""
        own, wanted = (
            _signed_logarithms(np.array(each, np.float64)) for each in (self.numbers, sizes)
        )
        return int(np.argmin(np.abs(own - wanted)))


@dataclass(frozen=True)
class Location:
    """In which loop of its consumer a block is computed; see `SAMPLED` and `ROOT`."""

    weight: float = field(default=0.5, init=False)
    _known: list[int] = field(default_factory=lambda: [ROOT], init=False)

    @property
    def values(self) -> tuple[int, ...]:
        """Any: TVM corrects what a program has not."""
        return ()

    def note(self, value: int) -> None:
        """Remember that there is such a location in some program."""
        if value not in self._known:
            self._known.append(value)

    def draw(self, count: int, rng: np.random.Generator) -> IndexArray:
        """Left to TVM."""
        del rng
        return np.full(count, SAMPLED, np.int64)

    def near(self, values: IndexArray, rng: np.random.Generator) -> IndexArray:
        """Any that some program had; where a program has none such, TVM takes the one before."""
        return rng.choice(np.array(self._known, np.int64), size=len(values))

    def features(self, values: IndexArray) -> FloatArray:
        """The number; one that is not drawn yet is unknown."""
        return np.where(values == SAMPLED, np.nan, values)[:, None]

    @property
    def width(self) -> int:
        """The location."""
        return 1

    def sizes(self, value: int) -> tuple[int, ...]:
        """The location."""
        return (value,)

    def nearest(self, sizes: Sequence[int]) -> int:
        """The same; where a program has none such, TVM takes the one before."""
        (value,) = sizes
        if value != SAMPLED:
            self.note(value)
        return value


def _signed_logarithms(numbers: FloatArray) -> FloatArray:
    found: FloatArray = np.sign(numbers) * np.log2(np.abs(numbers) + 1.0)
    return found


def _prime_powers(number: int) -> Counter[int]:
    found: Counter[int] = Counter()
    prime = 2
    while prime * prime <= number:
        while number % prime == 0:
            found[prime] += 1
            number //= prime
        prime += 1
    if number > 1:
        found[number] += 1
    return found


def _divisors(number: int) -> list[int]:
    """Those above 1."""
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)} - {1})
