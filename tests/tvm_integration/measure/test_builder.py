import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import matmul_task
import numpy as np
import pytest

from costmodels.errors import InputError
from tvm_integration import WarmBuilder
from tvm_integration.compat import BuilderInput, Schedule, meta_schedule, tvm
from tvm_integration.measure import builder as builder_module
from tvm_integration.workers.fork_server_client import shared_session
from tvm_integration.workers.pool import WorkerError


@pytest.fixture(scope="module")
def builder():
    builder = WarmBuilder(max_workers=2)
    yield builder
    builder.close()


@pytest.fixture(scope="module")
def built(builder):
    return builder.build(matmul_task.build_inputs(5))


def test_it_is_a_builder_of_tvm(builder):
    assert isinstance(builder, meta_schedule.builder.Builder)
    assert builder.max_workers == 2
    assert builder.timeout_sec == 30


def test_every_input_becomes_an_artifact_in_order(built):
    assert [result.error_msg for result in built] == [None] * 5
    arguments = [tvm.runtime.tensor(np.ones((64, 64), "float32")) for _ in range(3)]
    for index, result in enumerate(built):
        tvm.runtime.load_module(str(result.artifact_path))["main"](*arguments)
        assert (arguments[2].numpy() == 64 * (1 + index)).all()


def test_an_artifact_is_a_tar_of_objects_in_a_folder_of_its_own(builder):
    (result,) = builder.build(matmul_task.build_inputs(1))
    path = Path(str(result.artifact_path))
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "tvm_tmp_mod.tar",
        "tvm_tmp_mod.tar.so",
    ]
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["lib0.o"]
    meta_schedule.utils.remove_build_dir(str(path))
    assert not path.parent.exists()


def test_stock_runner_takes_our_artifacts(built):
    runner = meta_schedule.runner.LocalRunner(
        evaluator_config=meta_schedule.runner.EvaluatorConfig(number=1, min_repeat_ms=0)
    )
    futures = runner.run([matmul_task.runner_input(result.artifact_path) for result in built[:2]])
    results = [future.result() for future in futures]
    assert [result.error_msg for result in results] == [None, None]
    assert all(0 < float(result.run_secs[0]) < 1 for result in results)


def test_artifacts_for_another_machine_are_not_linked_here(builder):
    target = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "num-cores": 2})
    (result,) = builder.build([BuilderInput(matmul_task.matmul(), target)])
    path = Path(str(result.artifact_path))
    assert [file.name for file in path.parent.iterdir()] == ["tvm_tmp_mod.tar"]


def test_a_module_that_cannot_be_built_fails_alone_with_its_reason(builder):
    schedule = Schedule(matmul_task.matmul())
    block = schedule.get_sblock("C")
    schedule.bind(schedule.get_loops(block)[0], "threadIdx.x")  # which no CPU has
    inputs = [BuilderInput(schedule.mod, matmul_task.TARGET), *matmul_task.build_inputs(1)]
    bad, good = builder.build(inputs)
    assert bad.artifact_path is None
    assert str(bad.error_msg).startswith("WarmBuilder: build: ")
    assert "Traceback" in bad.error_msg
    assert good.error_msg is None


def test_parameters_reach_f_build():
    def f_build(mod, target, params):
        assert params["weight"].numpy().tolist() == [1.0, 2.0]
        return tvm.compile(mod, target).mod

    builder = WarmBuilder(max_workers=1, f_build=f_build)
    weight = tvm.runtime.tensor(np.array([1.0, 2.0], "float32"))
    module = matmul_task.matmul()
    (result,) = builder.build([BuilderInput(module, matmul_task.TARGET, {"weight": weight})])
    assert result.error_msg is None


def test_what_a_candidate_does_costs_one_failure():
    def f_build(mod, target, _params):
        text = mod.script()
        if "128" in text:
            while True:
                pass
        if "192" in text:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "256" in text:
            os._exit(0)
        if "320" in text:
            raise ValueError("no such intrinsic")
        print("garbage " * 1000)
        return tvm.compile(mod, target).mod

    builder = WarmBuilder(max_workers=2, timeout_sec=1.5, f_build=f_build)
    results = builder.build(matmul_task.build_inputs(6))
    kinds = [r.error_msg and str(r.error_msg).split(": ")[1] for r in results]
    assert kinds == [None, "timeout", "crash", "crash", "build", None]
    assert "killed after 1.5 seconds" in results[1].error_msg
    assert "signal SIGSEGV" in results[2].error_msg
    assert "exited with status 0 before it answered" in results[3].error_msg
    assert "ValueError: no such intrinsic" in results[4].error_msg
    # The folders of what failed are gone.
    folders = {Path(str(r.artifact_path)).parent for r in results if r.artifact_path}
    first, last = sorted(folders, key=lambda folder: int(folder.name))
    between = [str(number) for number in range(int(first.name) + 1, int(last.name))]
    assert len(between) == 4
    assert not any((first.parent / name).exists() for name in between)


def test_a_build_far_slower_than_the_others_ends_early(monkeypatch):
    def f_build(mod, target, _params):
        while "128" in mod.script():
            pass
        return tvm.compile(mod, target).mod

    monkeypatch.setattr(builder_module, "MIN_BUILDS", 2)
    monkeypatch.setattr(builder_module, "MIN_TIMEOUT_S", 2.0)
    builder = WarmBuilder(max_workers=1, timeout_sec=300, f_build=f_build, slow_ratio=1.5)
    usual = matmul_task.build_inputs(1)
    assert all(result.error_msg is None for result in builder.build(usual * 2))
    first, second = builder.build(matmul_task.build_inputs(2))
    assert first.error_msg is None
    assert "timeout: killed after 2 seconds" in str(second.error_msg)


def test_lambdas_and_names_are_functions():
    def register():
        tvm.register_global_func(
            "test_builder.f_build", lambda mod, target, _: tvm.compile(mod, target).mod
        )

    builder = WarmBuilder(
        max_workers=1,
        f_build="test_builder.f_build",
        f_export=lambda module: f"exported a {type(module).__name__}",
        initializer=register,
    )
    (result,) = builder.build(matmul_task.build_inputs(1))
    assert result.artifact_path == "exported a Module"


def test_what_f_export_writes_outlives_the_worker():
    def f_export(module):
        import tempfile

        path = tempfile.mkdtemp() + "/kernel.tar"
        module.export_library(path)
        return path

    builder = WarmBuilder(max_workers=1, jobs_per_worker=1, f_export=f_export)
    results = builder.build(matmul_task.build_inputs(2))
    builder.close()
    for result in results:
        path = Path(str(result.artifact_path))
        assert path.exists()
        assert path.is_relative_to(shared_session().root())


def test_a_name_that_is_not_registered_is_an_error_at_the_first_build():
    builder = WarmBuilder(f_build="no.such.function")
    with pytest.raises(InputError, match=r"f_build must be registered .* got 'no.such.function'"):
        builder.build(matmul_task.build_inputs(1))


def test_an_initializer_that_raises_is_an_error_at_the_first_build():
    builder = WarmBuilder(initializer=lambda: {}["missing"])
    with pytest.raises(WorkerError, match="KeyError: 'missing'"):
        builder.build(matmul_task.build_inputs(1))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"max_workers": 0}, "max_workers must be a whole number of at least 1, got 0"),
        ({"timeout_sec": 0}, "timeout_sec must be a positive, finite number"),
        ({"f_build": 3}, "f_build must be a function, or the name of one .*, got 3"),
        ({"f_export": 3}, "f_export must be a function"),
        ({"slow_ratio": 1.0}, "slow_ratio must be above 1, got 1.0"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(InputError, match=message):
        WarmBuilder(**parameters)


def test_ctrl_c_comes_through_tvm_as_itself():
    users_pid = os.getpid()

    def f_build(*_):
        os.kill(users_pid, signal.SIGINT)
        signal.pause()

    builder = WarmBuilder(max_workers=1, f_build=f_build)
    with pytest.raises(KeyboardInterrupt):
        builder.build(matmul_task.build_inputs(1))


def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "print('started')\n"
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import matmul_task\n"
        "from tvm_integration import WarmBuilder\n"
        "from tvm_integration.compat import tvm\n"
        "def f_build(mod, target, params):\n"
        "    return tvm.compile(mod, target).mod\n"
        "builder = WarmBuilder(max_workers=2, f_build=f_build)\n"
        "print([r.error_msg for r in builder.build(matmul_task.build_inputs(3))])\n"
    )
    folder = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(script), folder], capture_output=True, text=True, check=True
    )
    assert done.stdout == "started\n[None, None, None]\n"
