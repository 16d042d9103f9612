"""Intrinsics of devices that TVM does not have here are imported when something asks for them."""

import subprocess
import sys

import pytest

from tvm_integration.compat import tvm

WMMA = "wmma_fill_16x16x16_f32"
SHOW = f"print(TensorIntrin.get({WMMA!r}, allow_missing=True) is not None)\n"
START = (
    "import inspect, sys\n"
    "from tvm_integration.compat import Target, meta_schedule, tvm\n"
    "from tvm.s_tir import TensorIntrin\n"
    "package = 'tvm.s_tir.tensor_intrin'\n"
)

pytestmark = pytest.mark.skipif(
    any(tvm.runtime.enabled(name) for name in ("cuda", "rocm")), reason="this machine's TVM has one"
)


def printed(code):
    done = subprocess.run(
        [sys.executable, "-c", START + code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_tuning_context_has_what_its_target_needs():
    code = (
        f"{SHOW}meta_schedule.TuneContext(target='llvm')\n{SHOW}"
        "print(TensorIntrin.get('dot_16x4_vnni', allow_missing=True) is not None)\n"
        f"meta_schedule.TuneContext(target=Target('nvidia/nvidia-h100'))\n{SHOW}"
    )
    assert printed(code) == ["False", "False", "True", "True"]


def test_whoever_looks_into_a_module_gets_all_of_it():
    asking = "from tvm.s_tir.tensor_intrin.cuda import *; assert get_wmma_load_intrin"
    looking = (
        "for module in list(sys.modules.values()):\n"
        "    hasattr(module, '__file__'), hasattr(module, '__warningregistry__')\n"
        "inspect.getmodule(lambda: 0)\n"
    )
    assert printed(f"{looking}{SHOW}{asking}\n{SHOW}") == ["False", "True"]


def test_a_name_that_no_module_has_imports_them_too():
    with_error = "getattr(sys.modules[package + '.cuda'], 'no_such_name')\n"
    code = f"try:\n    {with_error}except AttributeError as error:\n    print(error)\n{SHOW}"
    assert printed(code)[-1] == "True"
