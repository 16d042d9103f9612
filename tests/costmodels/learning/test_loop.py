"""Training ends with the best weights, goes on after a kill, and leaves torch's generator alone."""

import numpy as np
import pytest
import torch

from costmodels.errors import InputError
from costmodels.kernel_models.graphsage import GraphSage, GraphSageShape
from costmodels.learning.kernel_training import TrainingConfig
from costmodels.learning.loop import Examples, LoopConfig, train
from costmodels.learning.neural_model import NeuralConfig
from costmodels.protocol import FitProgress
from costmodels.testing.example_data import example_dataset

SHORT = NeuralConfig(TrainingConfig(epochs=6, kernels_per_batch=64))
SMALL = GraphSageShape(size=8, embedding=4, layers=1)


def rng():
    return np.random.default_rng(0)


class KilledError(Exception):
    pass


def test_a_killed_fit_goes_on_to_the_same_model(tmp_path):
    data = example_dataset(rng(), tasks=10)
    told = []
    whole = GraphSage(SMALL, SHORT).fit(data, rng=rng())

    def kill(done, most, text):
        told.append(done)
        if done == 4:
            raise KilledError

    path = tmp_path / "unfinished"
    with pytest.raises(KilledError):
        GraphSage(SMALL, SHORT).fit(data, rng=rng(), progress=FitProgress(kill, path))
    resumed = GraphSage(SMALL, SHORT).fit(
        data, rng=rng(), progress=FitProgress(lambda done, *_: told.append(done), path)
    )
    assert told == [1, 2, 3, 4, 4, 5, 6]
    np.testing.assert_array_equal(
        whole.predict(data.batch).utility, resumed.predict(data.batch).utility
    )
    assert list(tmp_path.iterdir()) == []


def test_another_fit_does_not_go_on_from_it(tmp_path):
    path = tmp_path / "unfinished"

    def kill(*_):
        raise KilledError

    with pytest.raises(KilledError):
        GraphSage(SMALL, SHORT).fit(
            example_dataset(rng(), tasks=10), rng=rng(), progress=FitProgress(kill, path)
        )
    told = []
    other = example_dataset(np.random.default_rng(5), tasks=10)
    GraphSage(SMALL, SHORT).fit(
        other, rng=rng(), progress=FitProgress(lambda done, *_: told.append(done), path)
    )
    assert told[0] == 1


def test_damaged_leftovers_are_no_reason_to_fail(tmp_path):
    (tmp_path / "unfinished.0").write_bytes(b"not a state")
    progress = FitProgress(None, tmp_path / "unfinished")
    model = GraphSage(SMALL, SHORT).fit(
        example_dataset(rng(), tasks=10), rng=rng(), progress=progress
    )
    assert model.is_fitted


def test_torch_draws_as_if_nothing_had_been_trained():
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    GraphSage(SMALL, SHORT).fit(example_dataset(rng(), tasks=10), rng=rng())
    assert torch.equal(torch.rand(3), wanted)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="loss must be one of squared_error, pairwise"):
        TrainingConfig(loss="mystery")


class Losses(Examples):
    """Examples on which a network loses what is told."""

    batch_count = 1

    def __init__(self, told=None):
        self.told = None if told is None else iter(told)

    def batches(self, rng):
        yield None, 1

    def loss(self, network, batch):
        found = network.weight.sum()
        return found if self.told is None else found * 0 + next(self.told)


def test_a_loss_that_is_no_number_is_never_the_best():
    network = torch.nn.Linear(1, 1)
    kept = []
    best = train(
        network,
        Losses(),
        LoopConfig(epochs=4, patience=9),
        rng=rng(),
        validation=Losses([3.0, 1.0, float("nan"), 2.0]),
        on_epoch=lambda _: kept.append(network.weight.item()),
    )
    assert best == 1.0
    assert network.weight.item() == kept[1]


@pytest.mark.parametrize("content", [b"junk", b""])
def test_a_damaged_state_is_a_new_beginning(tmp_path, content):
    path = tmp_path / "unfinished"
    path.write_bytes(content)
    epochs = []
    train(
        torch.nn.Linear(1, 1),
        Losses(),
        LoopConfig(epochs=2),
        rng=rng(),
        on_epoch=lambda epoch: epochs.append(epoch.number),
        unfinished=path,
    )
    assert epochs == [1, 2]
