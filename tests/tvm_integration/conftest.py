"""Fixtures of the tests that load networks."""

import sys

import pytest


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
