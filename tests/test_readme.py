"""The README's code runs as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_is_code_for_both_ways():
    assert len(BLOCKS) == 2
    assert "tune_tir(" in BLOCKS[0]
    assert "tuning_pipeline(" in BLOCKS[1]


@pytest.mark.slow
@pytest.mark.parametrize("block", BLOCKS, ids=["tune_tir", "tuning_pipeline"])
def test_the_code_runs(block, tmp_path):
    code = re.sub(r"(max_trials_global|total_trials)=\d+", r"\1=16", block)
    code = re.sub(r"num_trials_per_iter=\d+", "num_trials_per_iter=8", code)
    assert code != block
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(tmp_path.glob("*/cost_model.ckpt")), "the model was saved"
    assert list(tmp_path.glob("*/database_tuning_record.json"))
