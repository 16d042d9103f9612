"""Names lead to classes, lazily; importing the package loads nothing heavy."""

import subprocess
import sys

import pytest

import costmodels
import tvm_integration
from costmodels.errors import InputError
from costmodels.protocol import KernelCostModel
from costmodels.registry import KERNEL_MODELS, kernel_model_class, kernel_model_names


def test_every_registered_name_loads_a_model_of_that_name():
    for name in KERNEL_MODELS:
        model = kernel_model_class(name)
        assert model.name == name
        assert isinstance(model(), KernelCostModel)
    assert set(KERNEL_MODELS) <= set(kernel_model_names())


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(InputError, match=r"one of gbt, random, got 'gbd'; did you mean 'gbt'\?"):
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
