"""Releases of TVM's wheels that would crash are refused with the reason; ours does not crash."""

import subprocess
import sys
from typing import ClassVar

import pytest
from search_tasks import matmul

from tvm_integration import versions
from tvm_integration.compat import load_json, save_json


def test_save_json_works():
    """With apache-tvm-ffi 0.1.15 this is a segmentation fault, and so is all of MetaSchedule."""
    module = matmul()
    assert save_json(load_json(save_json(module))) == save_json(module)


@pytest.mark.parametrize("release", ["0.1.15", "0.1.15.post1", "0.1.13", "0.2.0"])
def test_a_wrong_release_is_refused_with_the_reason(monkeypatch, release):
    real = versions.version
    monkeypatch.setattr(
        versions, "version", lambda name: release if name == "apache-tvm-ffi" else real(name)
    )
    with pytest.raises(ImportError, match=f"got {release}.*segmentation fault.*pip install"):
        versions.check_versions()


def test_the_package_that_brought_a_wrong_release_is_named(monkeypatch):
    """apache-tvm-tirx beside apache-tvm brings such a release, and `pip check` is content."""

    class Other:
        requires = ("numpy", "apache-tvm-ffi>=0.1.15.post1", "not a requirement !")
        version = "0.1.0a4"
        metadata: ClassVar = {"Name": "apache-tvm-tirx"}

    real = versions.version
    monkeypatch.setattr(
        versions, "version", lambda name: "0.1.15.post2" if name == "apache-tvm-ffi" else real(name)
    )
    monkeypatch.setattr(versions, "distributions", lambda: [Other()])
    with pytest.raises(
        ImportError, match=r"got 0\.1\.15\.post2, which apache-tvm-tirx 0\.1\.0a4 asks for: with"
    ):
        versions.check_versions()


def test_importing_the_package_refuses_before_tvm_is_loaded(tmp_path):
    code = (
        "import importlib.metadata as m, sys\n"
        "real = m.version\n"
        "m.version = lambda name: '0.1.15' if name == 'apache-tvm-ffi' else real(name)\n"
        "try:\n"
        "    import tvm_integration\n"
        "except ImportError as error:\n"
        "    print('refused', 'segmentation fault' in str(error), 'tvm' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "True", "False"]


def test_a_missing_wheel_is_named(monkeypatch):
    def missing(name):
        raise versions.PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", missing)
    with pytest.raises(ImportError, match="apache-tvm must be installed"):
        versions.check_versions()


def test_another_project_of_the_name_is_recognized(monkeypatch):
    """PyPI's `costmodels` installs the same package: whichever comes last overwrites the other."""

    class Foreign:
        version = "0.2.3"

    monkeypatch.setattr(versions, "distribution", lambda _: Foreign())
    with pytest.raises(ImportError, match=r"got the distribution costmodels 0\.2\.3 beside it"):
        versions.check_versions()
