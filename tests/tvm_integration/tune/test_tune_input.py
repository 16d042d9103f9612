"""What `costmodels tune` refuses, in one line and before anything is measured."""

from pathlib import Path

import pytest
from command_line import costmodels
from typer.testing import CliRunner
from work_dirs import SMALL

from costmodels.errors import InputError
from tvm_integration.cli.app import app
from tvm_integration.records.database import CHECKPOINT, RECORDS


def refused(*arguments):
    """What `tune` says of bad input; nothing was measured before."""
    done = CliRunner().invoke(app, ["tune", *SMALL, *map(str, arguments)])
    assert isinstance(done.exception, InputError), done.output
    assert "measuring" not in done.output, "it is found at once"
    message = str(done.exception)
    assert "\n" not in message
    return message


def test_another_target_is_refused(tuned):
    folder, _ = tuned
    arguments = ["--work-dir", folder / "work", "--target", "llvm -mcpu=x86-64"]
    assert "use another work directory for this target" in refused(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["zoo:nope"], "zoo network must be one of"),
        (["missing.onnx"], "MODEL must be an existing file, got 'missing.onnx'"),
        (["nonsense"], "MODEL must be zoo:NAME"),
        (["zoo:mlp", "--target", "nope"], "target must be 'host'"),
        (["zoo:mlp", "--target", "c"], "got 'c': give the target llvm"),
        (["zoo:mlp", "--target", "llvm -num-cores=100000"], "num-cores must be at most"),
        (["zoo:mlp", "--trials", "-1"], "trials must be in 0 ... 2147483647, got -1"),
        (
            ["zoo:mlp", "--trials", "0", "--cost-model", "gbt"],
            "must be one that has learned for 0 trials, got 'gbt'",
        ),
        (["zoo:mlp", "--trials", "9" * 20], "trials must be in 0 ..."),
        (["zoo:mlp", "--trials-per-iter", "0"], "trials_per_iter must be in 1 ..."),
        (["zoo:mlp", "--minutes", "-2"], "minutes must be positive"),
        (["zoo:mlp", "--seed", "-2"], "Invalid value for '--seed'"),
        (["zoo:mlp", "--seed", "2147483647"], "seed must be in 0"),
        (["zoo:mlp", "--cost-model", "gbd"], "did you mean 'gbt'?"),
        (["zoo:mlp", "--cost-model", "none.ckpt"], "cannot be read"),
        (["zoo:mlp", "--tasks", "no_such_kernel"], "the kernels are "),
        (["zoo:mlp", "--tasks", "0"], "tasks must be at least 1"),
        (["zoo:mlp", "--device", "none.toml"], "device file none.toml cannot be read"),
        (["zoo:mlp", "--out", "lib.txt"], "library must end in .so or .tar"),
        (["zoo:mlp", "--out", "/proc/x.so"], "must be in a directory that can be written"),
    ],
)
def test_bad_input_is_named_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["tune", *arguments])
    if isinstance(done.exception, InputError):
        assert message in str(done.exception)
        assert "\n" not in str(done.exception)
    else:
        assert done.exit_code == 2
        assert message in done.output


def test_bad_input_ends_with_exit_code_2(tmp_path):
    done = costmodels("tune", "zoo:mlp", "--trials", "-1", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: trials must be in 0 ... 2147483647, got -1"]
    assert list(tmp_path.iterdir()) == []


def test_paths_do_not_follow_a_network_that_changes_the_directory(tmp_path, monkeypatch):
    from tvm_integration.tune import session as tuning

    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "restless.py").write_text(
        "import os, torch\n"
        "def net():\n"
        "    os.chdir('elsewhere')\n"
        "    return torch.nn.Linear(4, 4), (torch.zeros(1, 4),)\n"
    )
    found = []

    def keep(network, target, options, on_state):
        found.append(options.work_dir)
        raise InputError("enough")

    monkeypatch.setattr(tuning, "_tune", keep)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = CliRunner().invoke(app, ["tune", "restless:net", "--work-dir", "work"])
    assert str(done.exception) == "enough"
    assert Path.cwd() == tmp_path / "elsewhere"
    assert found == [tmp_path / "work"]


def test_damaged_files_are_named_and_kept(tmp_path):
    for name in (CHECKPOINT, RECORDS):
        work_dir = tmp_path / name
        work_dir.mkdir()
        (work_dir / name).write_bytes(b"nonsense\nmore\n")
        assert "use another work directory" in refused("--work-dir", work_dir, "--trials", 8)
        assert (work_dir / name).read_bytes() == b"nonsense\nmore\n"


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "tuning.log").mkdir()
    message = refused("--work-dir", tmp_path, "--trials", 8)
    assert "tuning.log must be a file that can be written" in message


def test_a_folder_in_use_is_refused(tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "must not be in use" in refused("--work-dir", tmp_path, "--trials", 8)


def test_trials_of_each_kernel_are_some():
    assert "trials_each must be in 1" in refused("--trials-each", 0)
    assert "trials must not be 0 with trials_each, got 8" in refused(
        "--trials", 0, "--trials-each", 8
    )


def test_without_gain_there_is_no_end_by_another_count():
    for wrong in (["--trials-each", 8], ["--trials", 0]):
        message = refused("--until-no-gain", *wrong)
        assert "until_no_gain must be given without trials_each and with trials above 0" in message
