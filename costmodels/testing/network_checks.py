"""Conformance checks that every network model must pass, as those of kernel models."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from costmodels.checkpoint import load_checkpoint, require, write_checkpoint
from costmodels.errors import CheckpointError, InputError, SchemaError
from costmodels.features.schema import FeatureSchema
from costmodels.kernel import Failure, FloatArray, Measured
from costmodels.metrics import kendall_tau
from costmodels.model_state import network_model_of_state
from costmodels.networks.sample import NetworkDataset, NetworkPrediction, NetworkSample
from costmodels.protocol import NEEDS, Claims, NetworkCostModel, missing_network_members
from costmodels.registry import network_model_class, network_model_names
from costmodels.testing.example_networks import (
    example_networks,
    reordered,
    with_unknown_operator,
)
from costmodels.testing.fitted import MIN_TAU, ROUNDING, assert_raises, new_rng

__all__ = ["NETWORK_MODEL_CHECKS", "NetworkCheck", "NetworkModelFactory"]

NetworkModelFactory: TypeAlias = Callable[[], NetworkCostModel]
"""Makes a new model that has learned nothing; a model class will do."""
NetworkCheck: TypeAlias = Callable[[NetworkModelFactory, Path], None]
"""(factory, empty folder to write in) -> nothing, or AssertionError."""
MAX_OFF = 3.0
"""Factor by which seconds of learned networks may be off on the whole."""


def check_network_protocol(factory: NetworkModelFactory, folder: Path) -> None:
    """A model has every verb and attribute, and knows whether it has learned."""
    del folder
    model = factory()
    missing = ", ".join(missing_network_members(model))
    assert not missing, f"attributes or verbs of NetworkCostModel are missing: {missing}"
    verbs = ("fit", "update", "predict", "state", "from_state")
    no_verbs = [name for name in verbs if not callable(getattr(model, name))]
    assert not no_verbs, f"these must be functions: {', '.join(no_verbs)}"
    kinds = {"name": str, "paper": str, "claims": Claims, "schema": FeatureSchema}
    for member, kind in (kinds | {"needs": frozenset}).items():
        value = getattr(model, member)
        assert isinstance(value, kind), f"{member} must be {kind.__name__}, got {value!r}"
    assert isinstance(model, NetworkCostModel), "it must be a NetworkCostModel"
    assert model.name, "name must be the registered name"
    if model.name in network_model_names():
        owner = network_model_class(model.name)
        assert type(model) is owner, f"name {model.name!r} is that of {owner.__qualname__}"
    assert model.paper, "paper must name the publication"
    assert model.needs, f"needs must be some of {', '.join(NEEDS)}"
    assert model.needs <= set(NEEDS), f"needs must be of {', '.join(NEEDS)}, got {model.needs}"
    assert not model.is_fitted, "is_fitted must be false of a new model"
    assert model.fit(_learned(), rng=new_rng()) is model, "fit must return the model itself"
    assert model.is_fitted, "is_fitted must be true after fit"


def check_network_shapes(factory: NetworkModelFactory, folder: Path) -> None:
    """One answer for each network, as float64, also for one network and for none."""
    del folder
    model = _fitted(factory)
    for size in (12, 1, 0):
        for values in _values(model.predict(_unseen().networks[:size])):
            assert values.shape == (size,), f"wants [{size}], got {values.shape}"
            assert values.dtype == np.float64, f"wants float64, got {values.dtype}"


def check_network_answers_are_usable(factory: NetworkModelFactory, folder: Path) -> None:
    """Utilities are finite, before learning and after; seconds are positive."""
    del folder
    for model in (factory(), _fitted(factory)):
        prediction = model.predict(_unseen().networks)
        assert np.all(np.isfinite(prediction.utility)), "utilities must be finite"
        _assert_named(prediction)


def check_network_independence(factory: NetworkModelFactory, folder: Path) -> None:
    """The answer for a network depends neither on its position nor on the others."""
    del folder
    model = _fitted(factory)
    networks = _unseen().networks
    whole = _values(model.predict(networks))
    order = new_rng(2).permutation(len(networks))
    mixed = _values(model.predict([networks[place] for place in order]))
    alone = _values(model.predict(networks[3:4]))
    for all_, moved, one in zip(whole, mixed, alone, strict=True):
        _assert_close(moved, all_[order], "order changes answers")
        _assert_close(one, all_[3:4], "an answer depends on other networks")


def check_network_order_of_operators(factory: NetworkModelFactory, folder: Path) -> None:
    """Names, and the order in which a file lists operators, change nothing."""
    del folder
    model = _fitted(factory)
    networks = _unseen().networks
    other = [reordered(network) for network in networks]
    for before, after in zip(
        _values(model.predict(networks)), _values(model.predict(other)), strict=True
    ):
        _assert_close(after, before, "names or order of operators change answers")


def check_network_unknown_operator(factory: NetworkModelFactory, folder: Path) -> None:
    """A network with an operator that nobody knows is named, and has no seconds."""
    del folder
    model = _fitted(factory)
    networks = _unseen().networks[:3]
    strange = with_unknown_operator(networks[1])
    prediction = model.predict([networks[0], strange, networks[2]])
    named = {each.network for each in prediction.unsupported}
    assert named == {1}, f"the network with an unknown operator must be named, got {named}"
    reasons = [f"{each.part} {each.reason}" for each in prediction.unsupported]
    assert any("made" in text for text in reasons), f"the operator must be named, got {reasons}"
    _assert_named(prediction)


def check_network_missing_part(factory: NetworkModelFactory, folder: Path) -> None:
    """A network that comes without what the model needs is named, and has no seconds."""
    del folder
    model = _fitted(factory)
    network = _unseen().networks[0]
    if model.needs == {"kernels"}:
        other = replace(network, kernels=None)
    elif model.needs == {"graph"}:
        other = replace(network, graph=None)
    else:
        return
    prediction = model.predict([other])
    assert prediction.unsupported, f"a network without {model.needs} must be named"
    _assert_named(prediction)


def check_network_fit_repeats(factory: NetworkModelFactory, folder: Path) -> None:
    """Equal data and equal generators give equal models, whatever was learned before."""
    del folder
    first = _fitted(factory)
    second = factory().fit(example_networks(new_rng(9), networks=20, first=500), rng=new_rng(4))
    second.update(_unseen().networks, _unseen().measurements)
    second.fit(_learned(), rng=new_rng())
    networks = _unseen().networks
    for one, other in zip(
        _values(first.predict(networks)), _values(second.predict(networks)), strict=True
    ):
        np.testing.assert_array_equal(one, other, err_msg="fit does not repeat, or remembers")


def check_network_fit_ranks(factory: NetworkModelFactory, folder: Path) -> None:
    """The faster a learned network, the higher its utility; seconds are right on the whole."""
    del folder
    model = _fitted(factory)
    learned = _learned()
    ran = learned.take(np.flatnonzero(learned.measured))
    prediction = model.predict(ran.networks)
    latency_s = np.exp(ran.log_latency)
    if model.claims.ranks:
        tau = kendall_tau(prediction.utility, latency_s)
        assert tau > MIN_TAU, f"tau above {MIN_TAU} on learned networks, got {tau:.2f}"
    if prediction.latency_s is not None:
        off = float(np.exp(np.nanmedian(np.log(prediction.latency_s / latency_s))))
        assert 1 / MAX_OFF < off < MAX_OFF, (
            f"seconds must be right on the whole, got {off:.3g} times the measured"
        )


def check_network_update(factory: NetworkModelFactory, folder: Path) -> None:
    """Updates change what is predicted, keep what works, and take failures and nothing."""
    del folder
    model = _fitted(factory)
    networks = _unseen().networks
    before = _values(model.predict(networks))
    model.update([], [])
    model.update(networks[:2], [Failure("run", "made up"), Failure("timeout", "made up")])
    for one, other in zip(before, _values(model.predict(networks)), strict=True):
        np.testing.assert_array_equal(one, other, err_msg="failures or nothing taught something")
    slower = [
        Measured((each.latency_s * 2,)) if isinstance(each, Measured) else each
        for each in _unseen().measurements
    ]
    model.update(networks, slower)
    after = _values(model.predict(networks))
    assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True)), (
        "an update after fit changes nothing"
    )


def check_network_claims(factory: NetworkModelFactory, folder: Path) -> None:
    """A prediction contains what the model claims, and nothing more."""
    del folder
    model = _fitted(factory)
    found = model.predict(_unseen().networks)
    assert (found.latency_s is not None) == model.claims.seconds, "seconds if and only if claimed"
    assert (found.low_s is not None) == model.claims.interval, "intervals if and only if claimed"
    if found.low_s is not None and found.high_s is not None:
        assert found.latency_s is not None, "an interval needs a latency"
        ordered = (found.low_s <= found.latency_s) & (found.latency_s <= found.high_s)
        assert np.all(ordered | np.isnan(found.latency_s)), "low <= latency <= high"


def check_network_needs_something(factory: NetworkModelFactory, folder: Path) -> None:
    """Networks of which none ran cannot be learned from, and that is said."""
    del folder
    learned = _learned()
    failures = tuple(Failure("run", "made up") for _ in learned.networks)
    failed = NetworkDataset(learned.networks, failures)
    assert_raises(InputError, lambda: factory().fit(failed, rng=new_rng()), "fit on failures")


def check_network_state(factory: NetworkModelFactory, folder: Path) -> None:
    """A written state gives the same model: its answers, and what later updates do."""
    model = _fitted(factory)
    path = folder / "network.ckpt"
    write_checkpoint(path, model.state())
    loaded = _read(model, path)
    unseen, more = _unseen(), example_networks(new_rng(7), networks=6, first=300)
    _assert_equal(model, loaded, unseen.networks, "writing changes answers")
    for each in (model, loaded):
        each.update(more.networks, more.measurements)
    _assert_equal(model, loaded, unseen.networks, "a model that was read learns differently")
    write_checkpoint(path, factory().state())
    read = _read(model, path)
    assert not read.is_fitted, "is_fitted must survive writing"


def check_network_foreign_state(factory: NetworkModelFactory, folder: Path) -> None:
    """A damaged file, and a state of another schema, are refused."""
    model = _fitted(factory)
    path = folder / "network.ckpt"
    write_checkpoint(path, model.state())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert_raises(CheckpointError, lambda: _read(model, path), "half a file")
    write_checkpoint(path, replace(model.state(), schema="another"))
    assert_raises(SchemaError, lambda: _read(model, path), "a state of another schema")


NETWORK_MODEL_CHECKS: tuple[NetworkCheck, ...] = (
    check_network_protocol,
    check_network_shapes,
    check_network_answers_are_usable,
    check_network_independence,
    check_network_order_of_operators,
    check_network_unknown_operator,
    check_network_missing_part,
    check_network_fit_repeats,
    check_network_fit_ranks,
    check_network_update,
    check_network_claims,
    check_network_needs_something,
    check_network_state,
    check_network_foreign_state,
)
"""All checks, each a test of its own."""


def _read(model: NetworkCostModel, path: Path) -> NetworkCostModel:
    """The model of a checkpoint; one that is not registered is known by its class."""
    state = load_checkpoint(path)
    if model.name in network_model_names():
        return network_model_of_state(state, path=path)
    require(state, path=path, model=model.name, schema=model.schema)
    return model.from_state(state)


def _fitted(factory: NetworkModelFactory) -> NetworkCostModel:
    return copy.deepcopy(_fitted_once(factory))


@cache
def _fitted_once(factory: NetworkModelFactory) -> NetworkCostModel:
    return factory().fit(_learned(), rng=new_rng())


@cache
def _learned() -> NetworkDataset:
    return example_networks(new_rng())


@cache
def _unseen() -> NetworkDataset:
    return example_networks(new_rng(1), networks=12, first=100)


def _values(prediction: NetworkPrediction) -> list[FloatArray]:
    fields = (prediction.utility, prediction.latency_s, prediction.low_s, prediction.high_s)
    return [values for values in fields if values is not None]


def _assert_close(found: FloatArray, wanted: FloatArray, why: str) -> None:
    np.testing.assert_allclose(found, wanted, rtol=ROUNDING, atol=ROUNDING, err_msg=why)


def _assert_equal(
    first: NetworkCostModel, second: NetworkCostModel, networks: Sequence[NetworkSample], why: str
) -> None:
    for one, other in zip(
        _values(first.predict(networks)), _values(second.predict(networks)), strict=True
    ):
        np.testing.assert_array_equal(one, other, err_msg=why)


def _assert_named(prediction: NetworkPrediction) -> None:
    """Where a latency is missing the network is named; no latency is zero."""
    if prediction.latency_s is None:
        return
    named = {each.network for each in prediction.unsupported}
    missing = set(np.flatnonzero(np.isnan(prediction.latency_s)).tolist())
    assert missing == named, f"networks {missing} have no latency, {named} are named"
    known = prediction.latency_s[~np.isnan(prediction.latency_s)]
    assert np.all((known > 0) & np.isfinite(known)), "latencies must be positive and finite"
