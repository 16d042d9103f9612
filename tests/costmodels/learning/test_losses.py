"""Losses fall when the order gets better, ignore what they must, and never give no numbers."""

import math

import numpy as np
import pytest
import torch

from costmodels.learning.labels import KernelLabels, labelled_groups
from costmodels.learning.losses import RANK_LOSSES, RankTargets, log_seconds_error


def targets_of(log_speed, failed=None):
    speed = torch.tensor(log_speed)
    failed = torch.zeros_like(speed, dtype=torch.bool) if failed is None else torch.tensor(failed)
    return RankTargets(speed, ~failed, failed)


@pytest.mark.parametrize("name", RANK_LOSSES)
def test_the_right_order_costs_less_than_the_wrong_one(name):
    targets = targets_of([[0.0, 1.0, 2.0, 3.0]])
    right = RANK_LOSSES[name](targets.log_speed, targets)
    wrong = RANK_LOSSES[name](-targets.log_speed, targets)
    assert right < wrong


@pytest.mark.parametrize("name", RANK_LOSSES)
def test_descent_finds_the_order(name):
    rng = np.random.default_rng(0)
    targets = targets_of(rng.normal(size=(3, 8)).tolist())
    utility = torch.zeros(3, 8, requires_grad=True)
    optimizer = torch.optim.Adam([utility], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        RANK_LOSSES[name](utility, targets).backward()
        optimizer.step()
    for found, wanted in zip(utility.detach().numpy(), targets.log_speed.numpy(), strict=True):
        assert np.corrcoef(found, wanted)[0, 1] > 0.6
        assert np.argmax(found) == np.argmax(wanted)


@pytest.mark.parametrize("name", RANK_LOSSES)
def test_a_constant_of_a_group_does_not_count(name):
    targets = targets_of([[0.0, 1.0, 3.0], [2.0, 0.0, 1.0]])
    utility = torch.tensor([[0.5, 0.1, 0.2], [0.9, 0.3, 0.2]])
    moved = utility + torch.tensor([[7.0], [-4.0]])
    torch.testing.assert_close(
        RANK_LOSSES[name](utility, targets), RANK_LOSSES[name](moved, targets)
    )


@pytest.mark.parametrize("name", RANK_LOSSES)
def test_places_without_a_kernel_do_not_count(name):
    labels = KernelLabels(np.array([0, 0, 0, 1]), np.log([1.0, 2.0, 4.0, 1.0]), np.zeros(4))
    wide = labelled_groups(labels, [np.array([0, 1, 2]), np.array([3])])
    narrow = labelled_groups(labels, [np.array([0, 1, 2])])
    utility = torch.tensor([0.1, 0.4, 0.2, 9.0], requires_grad=True)
    RANK_LOSSES[name](utility[wide.place], wide.targets).backward()
    assert utility.grad[3].item() == pytest.approx(0.0, abs=1e-6)
    alone = RANK_LOSSES[name](utility.detach()[narrow.place], narrow.targets)
    assert math.isfinite(alone.item())


@pytest.mark.parametrize("name", ["pairwise", "lambda_rank", "list_wise"])
def test_a_failed_kernel_is_pushed_below_those_that_ran(name):
    latency = np.log([1.0, 1.1, 1.2, np.nan])
    groups = labelled_groups(KernelLabels(np.zeros(4, int), latency, latency), [np.arange(4)])
    utility = torch.zeros(4, requires_grad=True)
    RANK_LOSSES[name](utility[groups.place], groups.targets).backward()
    assert utility.grad[3] > 0  # descent lowers it
    assert utility.grad[3] == utility.grad.max()


@pytest.mark.parametrize("name", RANK_LOSSES)
def test_groups_of_failures_and_of_one_kernel_give_numbers(name):
    latency = np.array([np.nan, np.nan, 0.5])
    labels = KernelLabels(np.array([0, 0, 1]), latency, latency)
    groups = labelled_groups(labels, [np.array([0, 1]), np.array([2])])
    utility = torch.zeros(3, requires_grad=True)
    loss = RANK_LOSSES[name](utility[groups.place], groups.targets)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(utility.grad).all()


def test_equal_speeds_pull_nothing_apart():
    targets = targets_of([[1.0, 1.0, 1.005]])
    for name in ("pairwise", "lambda_rank"):
        utility = torch.tensor([[0.3, 0.2, 0.1]], requires_grad=True)
        RANK_LOSSES[name](utility, targets).backward()
        assert utility.grad.abs().max() == 0


def test_seconds_of_failures_do_not_count():
    predicted = torch.tensor([0.0, 5.0], requires_grad=True)
    log_seconds_error(predicted, torch.tensor([0.5, math.nan])).backward()
    assert predicted.grad.tolist() == [-0.5, 0.0]
    assert log_seconds_error(predicted, torch.tensor([math.nan, math.nan])).item() == 0.0


def test_groups_hold_kernels_of_one_task_and_each_kernel_once():
    task_index = np.repeat([0, 1, 2], [70, 3, 32])
    labels = KernelLabels(task_index, np.zeros(105), np.zeros(105))
    groups = labels.groups(np.random.default_rng(0))
    assert sorted(np.concatenate(groups).tolist()) == list(range(105))
    assert all(len(np.unique(task_index[group])) == 1 for group in groups)
    assert max(map(len, groups)) <= 32
