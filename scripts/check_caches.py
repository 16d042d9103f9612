"""The same estimates in ten fresh caches, four of them made while a process keeps a core busy.

What a cache holds of this machine must not hang on the moment it was made. The bandwidth comes from
a ready device file where there is one of this processor, so `--measured` hides those. Writes
docs/benchmarks/caches.json; fails when estimates of a network differ by more than 5 %.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmark_results import ROOT, Results

NETWORKS = ("zoo:mlp", "zoo:resnet18", "zoo:vit_tiny")
CACHES, BUSY = 10, 4
MAX_SPREAD = 0.05
BUSY_LOOP = "while True: pass"
HIDDEN = "import costmodels.device as d; d.ready_device = lambda _: None; "


def estimates(*, is_busy: bool, measured: bool) -> dict[str, Any]:
    """Seconds of each network, and the bandwidth, in processes with a cache of their own."""
    other = subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) if is_busy else None
    try:
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "XDG_CACHE_HOME": folder}
            found: dict[str, Any] = {}
            for network in NETWORKS:
                code = (HIDDEN if measured else "") + (
                    "from tvm_integration.cli.app import main; import sys; "
                    f"sys.argv = ['costmodels', 'estimate', {network!r}, '--json']; main()"
                )
                done = subprocess.run(
                    [sys.executable, "-c", code],
                    env=environment,
                    capture_output=True,
                    text=True,
                    check=True,
                )
                document = json.loads(done.stdout)
                found[network] = document["total_s"]
                found["bandwidth_byte_per_s"] = document["provenance"]["device"][
                    "bandwidth_byte_per_s"
                ]
    finally:
        if other is not None:
            other.kill()
            other.wait()
    return found


def main() -> None:
    """Measure what is missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", action="store_true", help="as on an unknown processor")
    parser.add_argument("--fresh", action="store_true", help="measure everything again")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/benchmarks/caches.json")
    options = parser.parse_args()
    results = Results(options.out, fresh=options.fresh)
    kind = "measured" if options.measured else "as found"
    found = [
        results.get(
            f"{kind} | {number}",
            estimates,
            is_busy=number < BUSY,
            measured=options.measured,
        )
        for number in range(CACHES)
    ]
    worst = 0.0
    for name in (*NETWORKS, "bandwidth_byte_per_s"):
        values = [each[name] for each in found]
        spread = max(values) / min(values) - 1
        print(f"{name}: {min(values):.4g} to {max(values):.4g}, {spread:.1%}")
        if name in NETWORKS:
            worst = max(worst, spread)
    if worst > MAX_SPREAD:
        sys.exit(f"estimates differ by {worst:.1%}, more than {MAX_SPREAD:.0%}")


if __name__ == "__main__":
    main()
