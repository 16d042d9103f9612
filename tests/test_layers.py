"""Imports only go down: which package may use which, over the whole tree."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = (
    "tvm_integration.cli",
    "tvm_integration.learn",
    "tvm_integration.estimate",
    "tvm_integration.collect",
    "tvm_integration.tune",
    "tvm_integration.tune.search",
    "tvm_integration.records",
    "tvm_integration.measure",
    "tvm_integration.compile",
    "tvm_integration.tir",
    "tvm_integration.frontends",
    "tvm_integration.zoo",
    "tvm_integration",  # the modules beside the packages
    "tvm_integration.workers",
    "halide_style",
    "costmodels",
)
"""From top to bottom."""
LOADER = "tvm_integration/__init__.py"
"""Offers names of the packages above it and imports these when asked for one."""


def floor(module: str) -> int:
    """The number of the floor that a module is on, from the top."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in FLOORS:
            return FLOORS.index(name)
    raise AssertionError(f"{module} is on no floor")


def imported(path: Path) -> set[str]:
    """The modules of this project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots"
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    roots = {name.split(".")[0] for name in FLOORS}
    return {name for name in found if name.split(".")[0] in roots}


def sources(package: str) -> list[Path]:
    """Its files, those of packages inside it too."""
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", ["tvm_integration", "halide_style", "costmodels"])
def test_imports_only_go_down(package):
    for path in sources(package):
        name = path.relative_to(ROOT).as_posix()
        if name == LOADER:
            continue
        own = floor(name.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        above = sorted(other for other in imported(path) if floor(other) < own)
        assert above == [], f"{name} must import from below, got {above}"


def test_every_package_is_on_a_floor():
    packages = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in sources("tvm_integration")
    }
    assert packages == {name for name in FLOORS if name.startswith("tvm_integration")}


def test_tvm_is_used_in_one_package():
    for path in (*sources("costmodels"), *sources("halide_style")):
        assert "tvm" not in {name.split(".")[0] for name in _all_imports(path)}, path


def _all_imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    direct = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    return direct | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
