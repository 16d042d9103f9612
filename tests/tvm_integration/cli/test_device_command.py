"""`costmodels device`, and how fast help is."""

import json
import time

import pytest
from command_line import costmodels
from typer.testing import CliRunner

from costmodels.errors import InputError
from tvm_integration.cli.app import app


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["device", "--help"]])
def test_help_answers_within_half_a_second(arguments):
    costmodels(*arguments)  # from now on the files are in the page cache
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        done = costmodels(*arguments)
        seconds.append(time.perf_counter() - begin)
        assert done.returncode == 0
        assert "Usage" in done.stdout
    assert min(seconds) < 0.5


def test_device_prints_a_file_that_reads_back(tmp_path):
    from costmodels.device import detect_host, read_device

    detect_host.cache_clear()  # other tests detect it with caches of their own
    done = costmodels("device")
    path = tmp_path / "host.toml"
    path.write_text(done.stdout)
    assert read_device(path) == detect_host()
    assert json.loads(costmodels("device", "--file", str(path), "--json").stdout)["kind"] == "cpu"
    limited = json.loads(costmodels("device", "--target", "llvm -num-cores=1", "--json").stdout)
    assert limited["cores"] == 1
    assert costmodels("device", "--file", "none.toml").returncode == 2
    too_many = ["--target", "llvm -num-cores=999"]
    with pytest.raises(InputError, match="num-cores must be at most the"):
        CliRunner().invoke(app, ["device", *too_many], catch_exceptions=False)
    with pytest.raises(InputError, match="must be given at most, got --list and --file"):
        CliRunner().invoke(app, ["device", "--list", "--file", path], catch_exceptions=False)
