"""The wheel: it holds all that the packages need, and runs without the source tree."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("costmodels", "halide_style", "tvm_integration", "pyproject.toml", "README.md", "LICENSE")


def pip(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment with the wheel, which finds the packages it depends on elsewhere."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / "source" / part if copy is shutil.copytree else _made(folder))
    pip("wheel", "--no-deps", "--wheel-dir", folder / "wheels", folder / "source")
    (wheel,) = (folder / "wheels").glob("tvm_costmodels-*.whl")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    pip("--python", python, "install", "--no-deps", wheel)
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    # Read as a path alone: the editable install there is not followed.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def _made(folder: Path) -> Path:
    (folder / "source").mkdir(exist_ok=True)
    return folder / "source"


def run(environment, *command):
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [str(environment / "venv/bin" / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        cwd=environment,
        env=variables | {"XDG_CACHE_HOME": str(environment / "cache")},
        check=False,
    )


@pytest.mark.slow
def test_the_wheel_estimates_a_network(environment):
    done = run(environment, "costmodels", "estimate", "zoo:mlp", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    assert "90 % interval" in done.stdout
    assert "<h2>Kernels</h2>" in (environment / "page.html").read_text()


@pytest.mark.slow
def test_the_wheel_is_what_runs(environment):
    code = (
        "import costmodels, halide_style, tvm_integration, costmodels.pretrained as p\n"
        "from costmodels.device import ready_devices\n"
        "from costmodels.dataset.locate import shipped_datasets\n"
        "for each in (costmodels, halide_style, tvm_integration): print(each.__file__)\n"
        "print(len(p.pretrained_models()), len(shipped_datasets()), len(ready_devices()) > 3)\n"
    )
    done = run(environment, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    *files, counts = done.stdout.splitlines()
    assert all(str(environment / "venv") in each for each in files)
    assert counts == "4 6 True"
