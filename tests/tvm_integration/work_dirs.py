"""What a run of `tune` leaves in its work directory."""

from pathlib import Path

from costmodels.checkpoint import load_checkpoint
from tvm_integration.records.database import CHECKPOINT, RECORDS
from tvm_integration.tune.cost_model import LEARNED

SMALL = ["zoo:mlp", "--trials-per-iter", "8"]


def records(work_dir):
    """Lines."""
    path = Path(work_dir) / RECORDS
    return path.read_text().splitlines() if path.exists() else []


def learned(work_dir):
    """How many of them the model has learned."""
    return len(load_checkpoint(Path(work_dir) / CHECKPOINT).arrays[LEARNED])
