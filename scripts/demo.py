"""Tune a small real network in a few minutes and print its latency before and after."""

import sys
import tempfile

from tvm_integration.cli import main

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="costmodels-demo-") as work_dir:
        command = ["tune", "zoo:vit_tiny", "--trials", "320", "--trials-per-iter", "16"]
        command += ["--minutes", "3.5", "--work-dir", work_dir]
        print(f"costmodels {' '.join(command)}", flush=True)
        sys.argv = ["costmodels", *command]
        main()
