"""Names lead to classes, lazily; importing the package loads nothing heavy."""

import subprocess
import sys

import numpy as np
import pytest

import costmodels
import tvm_integration
from costmodels.errors import InputError
from costmodels.protocol import KernelCostModel
from costmodels.registry import (
    KERNEL_MODELS,
    kernel_model_class,
    kernel_model_names,
    new_kernel_model,
)


def test_every_registered_name_loads_a_model_of_that_name():
    for name in KERNEL_MODELS:
        model = kernel_model_class(name)
        assert model.name == name
        assert isinstance(model(), KernelCostModel)
    assert set(KERNEL_MODELS) <= set(kernel_model_names())


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(
        InputError, match=r"one of ens.*, gbt, .*random, .*, got 'gbd'; did you mean 'gbt'\?"
    ):
        kernel_model_class("gbd")


@pytest.mark.parametrize("package", ["costmodels", "halide_style", "tvm_integration"])
def test_importing_a_package_loads_nothing_heavy(package):
    code = (
        f"import sys, {package}; "
        "print([m for m in ('torch', 'xgboost', 'tvm', 'scipy') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"


@pytest.mark.parametrize("package", [costmodels, tvm_integration])
def test_public_names_are_there(package):
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = package.nothing


def test_costmodels_never_imports_tvm():
    code = (
        "import sys, pkgutil, importlib, costmodels, halide_style\n"
        "for package in (costmodels, halide_style):\n"
        "    for m in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(m.name)\n"
        "print('tvm' in sys.modules)"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "False"


PLUGIN = """
from costmodels.kernel_models.random import RandomModel

class Mine(RandomModel):
    name = "mine"

class Nameless(RandomModel):
    pass

class NoGenerator(RandomModel):
    name = "no_generator"
    def __init__(self):
        pass

number = 3
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """An installed package of somebody else, with several entry points."""
    (tmp_path / "somebodys.py").write_text(PLUGIN)
    installed = tmp_path / "somebodys_models-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: somebodys-models\n")
    names = {
        "mine": "somebodys:Mine",
        "nameless": "somebodys:Nameless",
        "no_generator": "somebodys:NoGenerator",
        "number": "somebodys:number",
        "absent": "somebodys:Absent",
        "nowhere": "no_such_module:Model",
        "gbt": "somebodys:Mine",
    }
    lines = [f"{name} = {value}" for name, value in names.items()]
    text = "\n".join(["[costmodels.kernel_models]", *lines, ""])
    (installed / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("somebodys", None)


@pytest.mark.usefixtures("plugin")
def test_a_plugin_is_found_by_its_name_but_replaces_nothing():
    assert {"mine", "gbt", "random"} <= set(kernel_model_names())
    model = new_kernel_model("mine", rng=np.random.default_rng(0))
    assert type(model).__name__ == "Mine"
    assert kernel_model_class("gbt").__module__ == "costmodels.kernel_models.gbt.model"


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nameless", "a class with name = 'nameless', got 'random'"),
        ("no_generator", "must be made by NoGenerator"),
        ("number", "a class, got int"),
        ("absent", "something importable, got AttributeError"),
        ("nowhere", "something importable, got ModuleNotFoundError: No module named"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(name, message):
    with pytest.raises(InputError) as error:
        new_kernel_model(name, rng=np.random.default_rng(0))
    assert message in str(error.value)
    assert "somebodys" in str(error.value)
