"""Run onnx's own backend cases through load, fuse, build and run; write docs/operators.md.

Each case three ways: its inputs as inputs of the graph, all but the first as initializers, and all
as initializers. What comes out is compared with what onnx says, by the tolerances of the case.
"""

import argparse
import contextlib
import io
import os
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_results import ROOT, Results
from rich.console import Console

from tvm_integration.cli.progress import counted

WAYS = ("inputs", "first input", "constants")
"""Which of a case's inputs are inputs of the graph: all, the first, none."""
PAGE = ROOT / "docs/operators.md"
TIMEOUT_S = 60.0
_NAMED = r"operators? .*\w+ \(|^(in|out)puts? .*of FILE must"
"""How a refusal names an operator and its node, or an input or output."""
_TOLERANCE = {"float16": (4e-3, 2e-3), "bfloat16": (2e-2, 1e-2)}
"""Relative and absolute, of types in which a sum in another order differs by more."""
_NOTE = 240
"""Characters of a message that are kept."""


@dataclass(frozen=True)
class Case:
    """A case of onnx's backend tests.

    Attributes
    ----------
    name : str
        Without ``test_``.
    model : onnx.ModelProto
        With inputs.
    inputs, outputs : list
        Arrays; anything else in cases that this product does not handle.
    rtol, atol : float
        Tolerances.
    """

    name: str
    model: Any
    inputs: list[Any]
    outputs: list[Any]
    rtol: float
    atol: float

    @property
    def operators(self) -> str:
        """Names of its operators."""
        return ", ".join(dict.fromkeys(node.op_type for node in self.model.graph.node))

    @property
    def out_of_scope(self) -> str:
        """Why the product does not claim it; empty where it does."""
        domains = {node.domain for node in self.model.graph.node} - {"", "ai.onnx"}
        if domains:
            return f"domain {', '.join(sorted(domains))}"
        entries = [*self.model.graph.input, *self.model.graph.output]
        kinds = {entry.type.WhichOneof("value") for entry in entries} - {"tensor_type"}
        if kinds:
            return ", ".join(sorted(kinds))
        if any(entry.type.tensor_type.elem_type == 8 for entry in entries):
            return "strings"
        return ""


def cases() -> Iterator[Case]:
    """Yield all cases that onnx makes or carries."""
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test import loader
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            assert case.data_sets is not None  # as of all that onnx makes itself
            inputs, outputs = (
                [numpy_helper.to_array(x) if isinstance(x, onnx.TensorProto) else x for x in each]
                for each in case.data_sets[0]
            )
            name = case.name.removeprefix("test_")
            yield Case(name, case.model, inputs, outputs, case.rtol, case.atol)
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for case in loader.load_model_tests(kind=kind):
            assert case.model_dir is not None  # as of all that onnx carries
            model = onnx.load(os.path.join(case.model_dir, "model.onnx"))
            folder = Path(case.model_dir) / "test_data_set_0"
            read = {}
            for what in ("input", "output"):
                files = sorted(folder.glob(f"{what}_*.pb"), key=lambda p: int(p.stem.split("_")[1]))
                read[what] = [_tensor(onnx, numpy_helper, path) for path in files]
            name = case.name.removeprefix("test_")
            yield Case(name, model, read["input"], read["output"], case.rtol, case.atol)


def _tensor(onnx: Any, numpy_helper: Any, path: Path) -> Any:
    tensor = onnx.TensorProto()
    try:
        tensor.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(tensor)
    except Exception:  # a sequence: such cases are out of scope
        return None


def arranged(case: Case, way: str) -> tuple[Any, list[Any]]:
    """The model with some inputs made initializers, and the others' arrays."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    weights = {x.name for x in model.graph.initializer}
    entries = [x for x in model.graph.input if x.name not in weights]
    free = {"inputs": len(entries), "first input": 1, "constants": 0}[way]
    kept = entries[:free]
    for entry, array in list(zip(entries, case.inputs, strict=False))[free:]:
        model.graph.initializer.append(_initializer(entry, np.asarray(array)))
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return model, case.inputs[:free]


def _initializer(entry: Any, array: Any) -> Any:
    """A weight of the type that an input has: numpy alone has no 4-bit numbers."""
    from onnx import helper, numpy_helper

    element = entry.type.tensor_type.elem_type
    wanted = helper.tensor_dtype_to_np_dtype(element)
    tensor = numpy_helper.from_array(array.astype(wanted), entry.name)
    assert tensor.data_type == element, (entry.name, tensor.data_type, element)
    return tensor


def prepare() -> Any:
    """Make the function that checks a case one way; called in each worker."""
    known = {case.name: case for case in cases()}

    def check(job: Sequence[str]) -> list[str]:
        name, way = job
        return list(_check(known[name], way))

    return check


def _check(case: Case, way: str) -> tuple[str, str]:
    """What becomes of a case: right, wrong, refused or unclear, and a note."""
    import onnx

    from costmodels.errors import InputError
    from tvm_integration.compile.build import build, fuse
    from tvm_integration.compile.execution import run
    from tvm_integration.frontends.load import load_network
    from tvm_integration.targets import host_target

    model, inputs = arranged(case, way)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "case.onnx")
        onnx.save(model, path)
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                network = load_network(path)
                built = build(fuse(network.module, host_target()))
                got = run(built, [_cast(a, b) for a, b in zip(inputs, network.inputs, strict=True)])
            except InputError as error:
                text = str(error).replace(path, "FILE")
                return "refused" if re.search(_NAMED, text) else "unnamed", text
            except Exception as error:  # what a user would see a traceback of
                return "traceback", f"{type(error).__name__}: {str(error).strip()[:300]}"
    reason = _difference(got, case)
    return ("wrong", reason) if reason else ("right", "")


def _cast(array: Any, example: Any) -> Any:
    return np.asarray(array).astype(example.dtype, copy=False)


def _difference(got: Sequence[Any], case: Case) -> str:
    if len(got) != len(case.outputs):
        return f"{len(got)} outputs instead of {len(case.outputs)}"
    for number, (a, b) in enumerate(zip(got, case.outputs, strict=True)):
        b = np.asarray(b)
        kind = str(b.dtype)
        if a.shape != b.shape or a.dtype != b.dtype:
            return (
                f"output {number} is {a.dtype}{list(a.shape)} instead of {b.dtype}{list(b.shape)}"
            )
        try:
            a, b = a.astype(np.float64), b.astype(np.float64)
        except (TypeError, ValueError):
            return f"output {number} cannot be compared"
        rtol, atol = _TOLERANCE.get(kind, (1e-3, 1e-5))
        rtol, atol = max(case.rtol, rtol), max(case.atol, atol)
        if not np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True):
            off = float(np.nanmax(np.abs(a - b))) if a.size else 0.0
            return f"output {number} differs by {off:.3g}"
    return ""


def main() -> None:
    """Check what is missing, then write the page."""
    from tvm_integration.workers.pool import WorkerPool

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="check all cases anew")
    parser.add_argument("--only", help="cases whose name has this; nothing is written")
    parser.add_argument("--every", type=int, default=1, help="every so many; likewise")
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    results = Results(ROOT / "docs/benchmarks/operators.json", fresh=options.fresh)
    known = {case.name: case for case in cases()}
    names = [name for name in known if not options.only or options.only in name]
    names = names[:: options.every]
    is_part = options.only is not None or options.every > 1
    jobs = [(n, way) for n in names if not known[n].out_of_scope for way in WAYS]
    todo = [job for job in jobs if is_part or "/".join(job) not in results.values]
    found: dict[str, list[str]] = {}
    with (
        WorkerPool(
            prepare, stage="run", max_workers=2, timeout_sec=TIMEOUT_S, jobs_per_worker=2000
        ) as pool,
        counted(console, "checks") as on_progress,
    ):

        def on_result(index: int, result: Any) -> None:
            failure = result.failure
            value = result.value if failure is None else ["crash", str(failure)]
            value[1] = value[1][:_NOTE]
            found["/".join(todo[index])] = value
            on_progress(len(found), len(todo))

        pool.map(todo, on_result=on_result)
    if is_part:
        for name, (kind, note) in found.items():
            console.print(f"{kind:9} {name}: {note}", markup=False, soft_wrap=True)
        console.print(Counter(kind for kind, _ in found.values()))
        return
    results.values |= found
    results.values.pop("cases", None)
    results.get("cases", lambda: len(known))
    PAGE.write_text(page(known, results.values, results.header()))


def page(known: Mapping[str, Case], values: Mapping[str, Any], header: str) -> str:
    """The page of docs/: totals, what is wrong, and each operator."""
    claimed = {name: case for name, case in known.items() if not case.out_of_scope}
    outcome = {n: {way: values[f"{n}/{way}"][0] for way in WAYS} for n in claimed}
    right = sum("right" in each.values() for each in outcome.values())
    totals = {way: Counter(each[way] for each in outcome.values()) for way in WAYS}
    lines = [
        "# ONNX operators",
        "",
        f"{header}",
        "",
        f"onnx's own backend cases: {len(known)}, of which {len(claimed)} are of tensors of "
        f"numbers and of the standard domain. {right} of these give what onnx says in at least one "
        "of three ways: with all inputs as inputs of the graph, with the first only (the others "
        "are initializers, as weights are), and with none.",
        "",
        "| | " + " | ".join(WAYS) + " |",
        "|---|" + "---|" * len(WAYS),
    ]
    for kind, meaning in KINDS.items():
        cells = " | ".join(f"{totals[way][kind]:,}" for way in WAYS)
        lines.append(f"| {meaning} | {cells} |")
    lines += ["", "## Computed otherwise, or refused without naming the operator", ""]
    wrong = [
        (name, way, values[f"{name}/{way}"][1])
        for name in claimed
        for way in WAYS
        if outcome[name][way] in ("wrong", "traceback", "crash", "unnamed")
    ]
    lines += [f"- `{n}`, {way}: {note.splitlines()[0][:200]}" for n, way, note in wrong] or [
        "None."
    ]
    lines += ["", "## What none of these cases shows", "", *(f"- {each}" for each in UNLIKE)]
    lines += ["", "## Each operator", ""]
    lines += ["| operator | cases | right in a way | why others are refused |", "|---|---|---|---|"]
    groups: dict[str, list[str]] = {}
    for name, case in claimed.items():
        groups.setdefault(case.operators.partition(",")[0], []).append(name)
    for operator, names in sorted(groups.items()):
        good = sum("right" in outcome[name].values() for name in names)
        notes = [
            values[f"{n}/{w}"][1]
            for n in names
            for w in WAYS
            if "right" not in outcome[n].values() and outcome[n][w] == "refused"
        ]
        why = re.sub(r".*, got ", "", notes[0])[:120].replace("|", "\\|") if notes else ""
        lines.append(f"| {operator} | {len(names)} | {good} | {why} |")
    return "\n".join(lines) + "\n"


UNLIKE = (
    "NaN in Relu or Clip, or before the last number of Max or Min: TVM takes the other number, "
    "onnxruntime and torch give NaN.",
    "The largest of -inf alone (ReduceMax, MaxPool; torch's amax) is the least finite number of "
    "its type, the smallest of inf alone the largest one; their place (ArgMax) is right.",
    "Whole numbers beyond 2**53 that torch divides with a rounding mode: by way of doubles. The "
    "remainder by an infinity is NaN.",
)
"""What is computed otherwise, by torch's importer as well, and kept: to mend it costs a kernel."""
KINDS = {
    "right": "what onnx says",
    "refused": "refused, the operator and its node or the input named",
    "unnamed": "refused without naming it",
    "wrong": "something else",
    "traceback": "ended in a traceback",
    "crash": "ended the process or took too long",
}
"""Outcome of a check -> what it means."""


if __name__ == "__main__":
    main()
