"""The least that must work on every Python: import, every checkpoint, an estimate, a short tuning.

CI runs it on another Python than the one that all tests run on (`make smoke`).
"""

import sys
import tempfile
from pathlib import Path

import costmodels
from costmodels.pretrained import pretrained_models
from tvm_integration import TuneOptions, estimate_network, tune_network

NETWORK = "zoo:mlp"
TRIALS = 4


def main() -> None:
    """Run all parts; the first that fails raises."""
    for name in pretrained_models():
        assert costmodels.load_kernel_model(f"pretrained:{name}").is_fitted, name
    total = estimate_network(NETWORK).total
    assert total is not None
    assert 0 < total.low_s < total.total_s < total.high_s
    with tempfile.TemporaryDirectory() as folder:
        options = TuneOptions(Path(folder), trials=TRIALS, trials_per_iter=TRIALS)
        found = tune_network(NETWORK, options=options)
    assert found.outputs_match, found.outputs_note
    assert found.tuned_s is not None
    print(
        f"Python {sys.version.split()[0]}: {len(pretrained_models())} models load; {NETWORK} is "
        f"estimated at {total.total_s * 1e3:.2f} ms and tuned to {found.tuned_s * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    main()
