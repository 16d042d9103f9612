"""Every registered network model passes every check; every check fails on a faulty model."""

from dataclasses import replace

import numpy as np
import pytest

from costmodels import load_network_model, network_model_names
from costmodels.errors import InputError
from costmodels.kernel import Measured
from costmodels.network_models.sum_of_kernels import SumOfKernels
from costmodels.networks.sample import NetworkPrediction
from costmodels.registry import network_model_class
from costmodels.testing import NETWORK_MODEL_CHECKS


def check_id(check):
    return check.__name__.removeprefix("check_network_")


@pytest.mark.parametrize("check", NETWORK_MODEL_CHECKS, ids=check_id)
@pytest.mark.parametrize("name", network_model_names())
def test_registered_models_conform(name, check, tmp_path):
    check(network_model_class(name), tmp_path)


class NotRegistered(SumOfKernels):
    name = "not_registered"


class NoVerb(NotRegistered):
    update = None


class WrongShape(NotRegistered):
    def predict(self, networks):
        found = super().predict(networks)
        return NetworkPrediction(found.utility[:1])


class Zero(NotRegistered):
    """Counts what it does not know as nothing."""

    def predict(self, networks):
        found = super().predict(networks)
        return replace(found, latency_s=np.nan_to_num(found.latency_s), unsupported=())


class ByPosition(NotRegistered):
    def predict(self, networks):
        found = super().predict(networks)
        return replace(found, utility=found.utility + np.arange(len(networks)))


class ByName(NotRegistered):
    def predict(self, networks):
        found = super().predict(networks)
        longer = np.array([len(network.name) for network in networks], float)
        return replace(found, utility=found.utility + longer)


class Remembers(NotRegistered):
    def fit(self, dataset, *, rng, validation=None, progress=None):
        kept = dict(self._networks)
        super().fit(dataset, rng=rng, validation=validation, progress=progress)
        self._networks = kept or self._networks
        self.overheads = replace(
            self.overheads_on(dataset.networks[0].device), bias=0.5 * len(kept)
        )
        return self


class Backwards(NotRegistered):
    def predict(self, networks):
        found = super().predict(networks)
        return replace(found, utility=-found.utility)


class NoUpdate(NotRegistered):
    def update(self, networks, measurements):
        pass


class NoInterval(NotRegistered):
    def predict(self, networks):
        return replace(super().predict(networks), low_s=None, high_s=None, coverage=None)


class LearnsFailures(NotRegistered):
    def update(self, networks, measurements):
        super().update(
            networks,
            [each if isinstance(each, Measured) else Measured((9.0,)) for each in measurements],
        )
        self.overheads = (
            replace(self.overheads_on(networks[0].device), bias=1.0) if networks else None
        )


class Takes(NotRegistered):
    """Takes networks of which none ran."""

    def fit(self, dataset, *, rng, validation=None, progress=None):
        if not np.any(dataset.measured):
            return self
        return super().fit(dataset, rng=rng, validation=validation, progress=progress)


class ForgetsState(NotRegistered):
    def state(self):
        found = super().state()
        return replace(found, settings={**found.settings, "learned": {}, "networks": {}})


FAULTS = {
    "protocol": NoVerb,
    "shapes": WrongShape,
    "answers_are_usable": None,
    "independence": ByPosition,
    "order_of_operators": ByName,
    "unknown_operator": Zero,
    "missing_part": Zero,
    "fit_repeats": Remembers,
    "fit_ranks": Backwards,
    "update": (NoUpdate, LearnsFailures),
    "claims": NoInterval,
    "needs_something": Takes,
    "state": ForgetsState,
    "foreign_state": None,
}
"""None where the fault is shown by another check, or lies in shared code."""


@pytest.mark.parametrize("check", NETWORK_MODEL_CHECKS, ids=check_id)
def test_a_fault_is_found(check, tmp_path):
    check(NotRegistered, tmp_path)
    faulty = FAULTS[check_id(check)]
    for each in faulty if isinstance(faulty, tuple) else [faulty] if faulty else []:
        with pytest.raises(AssertionError):
            check(each, tmp_path)


def test_models_are_opened_by_name_and_file(tmp_path):
    model = load_network_model("sum_of_kernels", seed=3)
    assert load_network_model(model) is model
    model.save(tmp_path / "model.ckpt")
    assert isinstance(load_network_model(tmp_path / "model.ckpt"), SumOfKernels)
    with pytest.raises(
        InputError, match="one of sum_of_kernels, got 'sum_of_kernel'; did you mean"
    ):
        load_network_model("sum_of_kernel")
    with pytest.raises(InputError, match="got int"):
        load_network_model(3)
    with pytest.raises(InputError, match="a model of kernels: SumOfKernels"):
        load_network_model("pretrained:gbt")
