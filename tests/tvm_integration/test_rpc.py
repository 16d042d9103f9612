"""Artifacts of the warm builder run on TVM's RPC runner."""

import pytest
from matmul_task import build_inputs, runner_input

from tvm_integration import WarmBuilder
from tvm_integration.compat import EvaluatorConfig, meta_schedule


@pytest.mark.slow
def test_an_rpc_server_runs_our_artifact():
    from tvm.s_tir.meta_schedule.testing.local_rpc import LocalRPC

    (built,) = WarmBuilder(max_workers=1).build(build_inputs(1))
    assert built.error_msg is None
    with LocalRPC() as rpc:
        runner = meta_schedule.runner.RPCRunner(
            rpc_config=meta_schedule.runner.RPCConfig(
                tracker_host=rpc.tracker_host,
                tracker_port=rpc.tracker_port,
                tracker_key=rpc.tracker_key,
                session_priority=1,
                session_timeout_sec=100,
            ),
            evaluator_config=EvaluatorConfig(number=1, repeat=2, min_repeat_ms=0),
        )
        (future,) = runner.run([runner_input(str(built.artifact_path))])
        result = future.result()
    assert result.error_msg is None
    assert len(result.run_secs) == 2
    assert all(float(t) > 0 for t in result.run_secs)
