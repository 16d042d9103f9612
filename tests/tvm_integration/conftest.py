"""Fixtures of the tests that load networks."""

import sys

import pytest
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
    from tvm_integration.described_network import describe_network

    return describe_network(SMALL_NETWORK, target)
