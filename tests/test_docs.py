"""What README and docs say: their code runs, their links lead somewhere, their commands exist."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from tvm_integration.cli.app import OLD_NAMES, app

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [
    (path, block)
    for path in PAGES
    for block in re.findall(r"^ *```python\n(.*?)```", path.read_text(), re.DOTALL | re.MULTILINE)
]
SMALLER = {
    r"(max_trials_global|total_trials|trials)=\d+": r"\1=16",
    r"num_trials_per_iter=\d+": "num_trials_per_iter=8",
    r"per_task=\d+": "per_task=4",
}


def commands() -> list[tuple[str, str]]:
    """Page and command line, of all lines of code that begin with our command."""
    found = []
    for path in PAGES:
        for block in re.findall(r"^ *```\n(.*?)```", path.read_text(), re.DOTALL | re.MULTILINE):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(path.name, ln.strip()) for ln in lines if ln.strip()[:11] == "costmodels "]
    return found


def test_readme_is_short():
    lines = README.read_text().splitlines()
    assert len(lines) <= 160
    assert [line for line in lines if len(line) > 120] == []


def test_there_is_code_for_each_use():
    pages = {path.name for path, _ in CODE}
    assert {"README.md", "tune.md", "train.md", "estimate.md", "add-a-model.md"} <= pages


@pytest.mark.slow
@pytest.mark.parametrize(("page", "block"), CODE, ids=[path.stem for path, _ in CODE])
def test_the_code_runs(page, block, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    code = re.sub(r"^   ", "", block, flags=re.MULTILINE) if block.startswith("   ") else block
    for pattern, smaller in SMALLER.items():
        code = re.sub(pattern, smaller, code)
    script = tmp_path / "users_script.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    if "MetaScheduleCostModel(" in code or "tuning_pipeline(" in code:
        assert list(tmp_path.glob("*/cost_model.ckpt")), "the model was saved"
        assert list(tmp_path.glob("*/database_tuning_record.json"))


@pytest.mark.exhaustive
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    cells = json.loads((ROOT / "docs/notebook.ipynb").read_text())["cells"]
    assert len(cells) == 10
    code = "\n".join("".join(each["source"]) for each in cells if each["cell_type"] == "code")
    for pattern, smaller in SMALLER.items():
        code = re.sub(pattern, smaller, code)
    script = tmp_path / "users_notebook.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Kendall's tau" in done.stdout


@pytest.mark.parametrize("path", PAGES, ids=[path.name for path in PAGES])
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)]*)?\)", path.read_text()):
        if target.startswith("http"):
            continue
        page = path.parent / target if target else path
        assert page.exists(), f"{path.name} links to {target}"
        if anchor and page.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
            assert anchor[1:] in known, f"{path.name} links to {target}{anchor}"


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_have_these_options(page, line):
    words = shlex.split(line, comments=True)[1:]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands"), f"{line}: there is no such command"
    known = {name for parameter in command.params for name in parameter.opts}
    asked = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert set(asked) <= known | {"--help"}
    assert not {name.removeprefix("--") for name in asked} & set(OLD_NAMES), "an old name"
