"""The public functions: what is wrong is told in one line, as on the command line."""

import pytest

import costmodels
import tvm_integration
from costmodels.errors import InputError
from tvm_integration import (
    CalibrateOptions,
    CollectOptions,
    EstimateOptions,
    NetworkOptions,
    TuneOptions,
    calibrate,
    collect_kernels,
    collect_networks,
    estimate_network,
    explain_kernel,
    tune_network,
)
from tvm_integration.compat import tvm, without_notebook_tables

WRONG = {
    "a network that is none": (
        lambda: tune_network(3),
        "got one of int",
    ),
    "options of another function": (
        lambda: tune_network("zoo:mlp", options=EstimateOptions()),
        "options must be TuneOptions, got EstimateOptions(",
    ),
    "a number as text": (
        lambda: TuneOptions(trials="64"),
        "trials must be int, got '64' (str)",
    ),
    "a number that is a truth": (
        lambda: TuneOptions(trials=True),
        "trials must be int, got True (bool)",
    ),
    "a target that is none": (
        lambda: estimate_network("zoo:mlp", 2),
        "target must be str or Mapping or Target, got 2 (int)",
    ),
    "a network that is a path of another kind": (
        lambda: estimate_network(["zoo:mlp"]),
        "module:function of yours that returns a torch module",
    ),
    "a model that is unknown": (
        lambda: estimate_network("zoo:mlp", cost_model="gtb"),
        "got 'gtb'; did you mean 'gbt'?",
    ),
    "a model that learned nothing": (
        lambda: estimate_network("zoo:mlp", cost_model="gbt"),
        "must be one that has learned, got 'gbt'",
    ),
    "a shipped model that is unknown": (
        lambda: estimate_network("zoo:mlp", cost_model="pretrained:bets"),
        "did you mean pretrained:best?",
    ),
    "minutes of a quick calibration": (
        lambda: calibrate(options=CalibrateOptions(quick=True, minutes=1)),
        "minutes must not be given with quick",
    ),
    "nothing to collect": (
        lambda: collect_kernels([], "data"),
        "must be names of networks or a data set, got []",
    ),
    "what is no name": (
        lambda: collect_networks([None], "data"),
        "the name of a network must be str, got None",
    ),
    "options as a dictionary": (
        lambda: collect_kernels("zoo:mlp", "data", {"per_task": 4}),
        "options must be CollectOptions, got {'per_task': 4} (dict)",
    ),
    "a mixture as text": (
        lambda: CollectOptions(mixture="random=1"),
        "mixture must be Mapping, got 'random=1' (str)",
    ),
    "a network that the zoo has not": (
        lambda: collect_networks(["zoo:nope"], "data"),
        "zoo network must be one of",
    ),
    "a seed below zero": (
        lambda: CollectOptions(seed=-1),
        "seed must be in 0 ... 2147483646, got -1",
    ),
    "a seed that no generator takes": (
        lambda: EstimateOptions(seed=10**20),
        "seed must be in 0 ... 2147483646",
    ),
    "a device that is none": (
        lambda: estimate_network("zoo:mlp", device=3),
        "device must be str or PathLike or Device or None, got 3 (int)",
    ),
    "nowhere to collect into": (
        lambda: collect_kernels(["zoo:mlp"], None),
        "out must be str or PathLike, got None",
    ),
    "a kernel that is no name": (
        lambda: explain_kernel("zoo:mlp", 3),
        "kernel must be str or None, got 3 (int)",
    ),
    "features of nothing": (
        lambda: tvm_integration.featurize(None),
        "a data set must be str or PathLike, got None",
    ),
    "training on nothing": (
        lambda: costmodels.fit("gbt", None),
        "dataset must be str or PathLike or StoredDataset, got None",
    ),
    "training a number": (
        lambda: costmodels.fit(3, "data"),
        "model must be str or PathLike or KernelCostModel, got 3 (int)",
    ),
    "no models to judge": (
        lambda: costmodels.evaluate([], "data"),
        "models must name at least one, got none",
    ),
    "a model to judge that is an object": (
        lambda: costmodels.evaluate([costmodels.load_kernel_model("gbt")], "data"),
        "a model to judge must be str or PathLike",
    ),
    "a seed as text": (
        lambda: costmodels.load_kernel_model("gbt", seed="a"),
        "seed must be int, got 'a' (str)",
    ),
    "a data set that is not there": (
        lambda: costmodels.read_dataset("nowhere"),
        "nowhere must be a data set, got no such folder",
    ),
    "a device that is a number": (
        lambda: costmodels.read_device(3),
        "device must be str or PathLike, got 3 (int)",
    ),
    "no minutes": (lambda: NetworkOptions(minutes=0), "minutes must be above 0, got 0"),
    "an unknown kernel": (
        lambda: explain_kernel("zoo:mlp", "conv"),
        "kernel must be a part of a kernel's name, got 'conv'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_in_one_line(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, text = WRONG[what]
    with pytest.raises(InputError) as raised:
        call()
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


def test_paths_may_be_text(tmp_path):
    assert TuneOptions(work_dir=str(tmp_path)).work_dir == tmp_path
    assert EstimateOptions("database", str(tmp_path)).work_dir == tmp_path
    assert TuneOptions(minutes=2).minutes == 2


def test_every_public_name_is_there():
    for name in tvm_integration.__all__:
        assert getattr(tvm_integration, name).__name__ == name


def test_tuning_in_a_notebook_draws_no_tables(monkeypatch):
    """TVM draws them with pandas, which nothing here depends on."""

    class ZMQInteractiveShell:
        """What a notebook's cells run in."""

    monkeypatch.setattr("builtins.get_ipython", ZMQInteractiveShell, raising=False)
    name = "s_tir.meta_schedule.using_ipython"
    assert tvm.get_global_func(name)()
    with without_notebook_tables():
        assert not tvm.get_global_func(name)()
    assert tvm.get_global_func(name)()
