"""Fixtures of the tests that load networks."""

import json
import shutil
import sys

import pytest
from command_line import costmodels
from network_checks import SMALL_NETWORK


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory; sys.path and the imported modules come back as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """A cache folder that a module of tests has for itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def target():
    """This host."""
    from tvm_integration.targets import host_target

    return host_target()


@pytest.fixture(scope="module")
def network(target, own_cache):
    """`SMALL_NETWORK`, described for this host."""
    from tvm_integration.estimate.network_features import describe_network

    return describe_network(SMALL_NETWORK, target)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """A folder with a work directory and a library that `tune zoo:mlp` made, and that process."""
    folder = tmp_path_factory.mktemp("tuned")
    done = costmodels(
        "tune", "zoo:mlp", "--trials", "32", "--trials-per-iter", "8", "--cost-model", "gbt",
        "--work-dir", str(folder / "work"), "--out", str(folder / "mlp.so"), "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def tuned_kernel(tuned, tmp_path):
    """Another such work directory, with programs of one kernel alone."""
    folder = tmp_path / "work"
    shutil.copytree(tuned[0] / "work", folder)
    records = folder / "database_tuning_record.json"
    lines = records.read_text().splitlines(keepends=True)
    one = json.loads(lines[0])[0]
    records.write_text("".join(line for line in lines if json.loads(line)[0] == one))
    return folder
