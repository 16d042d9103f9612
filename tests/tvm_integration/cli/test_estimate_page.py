"""The page of an estimate in a real browser, without network: Debian's Chromium, headless."""

import re
import shutil
import subprocess

import pytest

from costmodels.kernel_models.paleo import Paleo
from tvm_integration.cli.estimate_page import estimate_html
from tvm_integration.estimate.estimate import EstimateOptions, estimate_network
from tvm_integration.estimate.network_features import describe_network
from tvm_integration.targets import device_of, host_target

BARE = EstimateOptions(overheads="none")
"""Kernels alone."""

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

_CLICKS = """
<script>
const button = document.querySelectorAll("table.sortable th button")[1];
const calls = () => [...document.querySelectorAll("table.sortable tbody tr")]
  .map((row) => row.cells[1].textContent).join(" ");
const told = document.createElement("output");
button.click();
const down = calls();
button.click();
told.textContent = "down: " + down + "; up: " + calls() + "; sorted: "
  + button.parentElement.getAttribute("aria-sort");
document.body.append(told);
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="needs a browser: apt-get install chromium")
def test_the_table_sorts_in_a_browser(tmp_path):
    target = host_target()
    network = describe_network("zoo:residual,number=5", target)
    text = estimate_html(estimate_network(network, target, device_of(target), Paleo(), BARE))
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", _CLICKS))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"down: ([\d ]+); up: ([\d ]+); sorted: (\w+)", dom)
    assert found is not None, dom[-2000:]
    down, up = ([int(number) for number in part.split()] for part in found.group(1, 2))
    assert down == sorted(down, reverse=True)
    assert up == sorted(up)
    assert len(down) == len(network.kernels)
    assert found.group(3) == "ascending"
    assert dom.count("<circle") == len(network.graph.launches)
