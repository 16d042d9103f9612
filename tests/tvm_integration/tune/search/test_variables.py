"""What sketches leave open: every value is legal, and near ones are near."""

import math

import numpy as np
import pytest

from tvm_integration.tune.search.variables import ROOT, SAMPLED, Choice, Location, Tiling


@pytest.mark.parametrize(("extent", "parts"), [(1, 4), (7, 2), (56, 4), (3136, 4), (97, 3)])
def test_tilings_are_all_products_each_once(extent, parts):
    options = Tiling(extent, parts, extent).options
    assert np.all(options.prod(axis=1) == extent)
    assert len(np.unique(options, axis=0)) == len(options)
    exponents = {2: 0, 3: 0, 7: 0, 97: 0}
    left = extent
    for prime in exponents:
        while left % prime == 0:
            exponents[prime] += 1
            left //= prime
    wanted = math.prod(math.comb(power + parts - 1, parts - 1) for power in exponents.values())
    assert len(options) == wanted


def test_the_innermost_loop_is_no_longer_than_allowed():
    options = Tiling(4096, 3, 64).options
    assert options[:, -1].max() == 64
    assert options[:, 0].max() == 4096


def test_a_loop_of_very_many_tilings_is_searched_in_part():
    tiling = Tiling(2**9 * 3**5 * 5**3 * 7**2, 4, 64)
    assert 1000 < len(tiling.options) <= 20_000
    assert np.all(tiling.options.prod(axis=1) == tiling.extent)


def test_near_tilings_move_one_factor():
    tiling = Tiling(56, 4, 56)
    rng = np.random.default_rng(0)
    values = tiling.draw(200, rng)
    moved = tiling.near(values, rng)
    changed = tiling.options[values] != tiling.options[moved]
    assert np.all(changed.sum(axis=1) == 2)
    alone = Tiling(1, 4, 64)
    assert alone.near(np.zeros(3, np.int64), rng).tolist() == [0, 0, 0]


def test_tilings_are_found_by_their_sizes():
    tiling = Tiling(56, 4, 64)
    value = tiling.value_of([2, 7, 1, 4])
    assert tiling.options[value].tolist() == [2, 7, 1, 4]
    assert tiling.value_of([2, 7, 1, 5]) is None
    np.testing.assert_allclose(tiling.features(np.array([value])), [[1, math.log2(7), 0, 2]])
    # Of a loop of 28: inner sizes stay, the outermost loop takes what is left.
    assert Tiling(28, 4, 64).options[Tiling(28, 4, 64).nearest([2, 7, 1, 4])].tolist() == [
        1,
        7,
        1,
        4,
    ]


def test_choices_are_as_probable_as_told_and_change():
    choice = Choice((0, 16, 512), (0.0, 0.75, 0.25))
    rng = np.random.default_rng(0)
    counts = np.bincount(choice.draw(4000, rng), minlength=3)
    assert counts[0] == 0
    assert counts[1] == pytest.approx(3000, abs=150)
    values = choice.draw(100, rng)
    assert np.all(choice.near(values, rng) != values)
    assert Choice((4,), (1.0,)).near(np.zeros(2, np.int64), rng).tolist() == [0, 0]


def test_locations_are_left_to_tvm_until_some_are_known():
    location = Location()
    rng = np.random.default_rng(0)
    assert location.draw(2, rng).tolist() == [SAMPLED, SAMPLED]
    assert set(location.near(np.full(20, SAMPLED), rng).tolist()) == {ROOT}
    location.note(5)
    assert set(location.near(np.full(50, SAMPLED), rng).tolist()) == {ROOT, 5}
    assert np.isnan(location.features(np.array([SAMPLED]))).all()
