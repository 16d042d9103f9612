"""What further trials gain: falls with the trials, adds up over kernels, knows what is untried."""

import itertools

import pytest

from costmodels.errors import InputError
from costmodels.tuned_latency.gain import WHOLE, further_gain, gain_of_network, log_gain


def test_each_doubling_gains_the_same_share_of_the_one_before():
    gains = [log_gain(2**power, 2**power) for power in range(12)]
    shares = [after / before for before, after in itertools.pairwise(gains)]
    assert shares == pytest.approx([shares[0]] * 11)
    assert 0.5 < shares[0] < 1
    assert sum(gains) < log_gain(1, 10**9) < WHOLE


def test_two_batches_gain_what_both_do():
    whole = 1 - further_gain(32, 32)
    assert (1 - further_gain(32, 16)) * (1 - further_gain(48, 16)) == pytest.approx(whole)
    assert further_gain(32, 16) > further_gain(48, 16)


def test_a_kernel_that_takes_all_decides():
    alone = gain_of_network([(1.0, 64)])
    assert alone.expected == pytest.approx(further_gain(64, 64))
    assert alone.at_most > alone.expected
    with_light = gain_of_network([(1.0, 64), (0.001, 8)])
    assert with_light.expected == pytest.approx(alone.expected, rel=0.02)


def test_errors_of_many_kernels_even_out():
    one, many = gain_of_network([(1.0, 64)]), gain_of_network([(0.1, 64)] * 10)
    assert many.expected == pytest.approx(one.expected)
    assert many.at_most < one.at_most


def test_of_a_kernel_without_trials_anything_may_be_saved():
    found = gain_of_network([(1.0, 0)])
    assert found.expected == 0.5
    assert 0.5 < found.at_most < 1.0


@pytest.mark.parametrize("wrong", [[], [(0.0, 8)]])
def test_kernels_must_take_time(wrong):
    with pytest.raises(InputError, match="kernels must take some time"):
        gain_of_network(wrong)


def test_trials_must_have_been():
    with pytest.raises(InputError, match="trials must be at least 1, got 0"):
        further_gain(0, 16)
