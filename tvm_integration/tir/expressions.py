"""Looking into TIR expressions: loads, operations, variables, linear indices."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tvm_integration.compat import TensorLoad, tvm

tirx = tvm.tirx

_BINARY: Mapping[type, str] = {
    tirx.Add: "add",
    tirx.Sub: "sub",
    tirx.Mul: "mul",
    tirx.Div: "div",
    tirx.Mod: "mod",
    tirx.FloorDiv: "div",
    tirx.FloorMod: "mod",
    tirx.Max: "max",
    tirx.Min: "min",
    tirx.EQ: "compare",
    tirx.NE: "compare",
    tirx.LT: "compare",
    tirx.LE: "compare",
    tirx.GT: "compare",
    tirx.GE: "compare",
    tirx.And: "logic",
    tirx.Or: "logic",
}


def children(node: Any) -> list[Any]:
    """The expressions an expression is made of."""
    if type(node) in _BINARY:
        return [node.a, node.b]
    if isinstance(node, TensorLoad):
        return list(node.indices)
    if isinstance(node, tirx.Cast):
        return [node.value]
    if isinstance(node, tirx.Select):
        return [node.condition, node.true_value, node.false_value]
    if isinstance(node, tirx.Not):
        return [node.a]
    if isinstance(node, tvm.ir.Call):
        return list(node.args)
    if isinstance(node, tirx.Let):
        return [node.value, node.body]
    if isinstance(node, tirx.Ramp):
        return [node.base]
    if isinstance(node, tirx.Broadcast):
        return [node.value]
    return []


def loads(node: Any) -> list[Any]:
    """Loads of an expression, those inside of indices left out."""
    if isinstance(node, TensorLoad):
        return [node]
    return [load for child in children(node) for load in loads(child)]


def variables(node: Any) -> set[Any]:
    """Variables of an expression, those of its indices included."""
    if isinstance(node, tirx.Var):
        return {node}
    return {variable for child in children(node) for variable in variables(child)}


def without_casts(node: Any) -> Any:
    """What is cast, if it is."""
    while isinstance(node, tirx.Cast):
        node = node.value
    return node


def calls_and_operations(node: Any) -> Counter[str]:
    """How often each kind of operation occurs, indices left out; intrinsics as ``call.NAME``."""
    found: Counter[str] = Counter()
    if isinstance(node, TensorLoad):
        return found
    if type(node) in _BINARY:
        found[_BINARY[type(node)]] += 1
    elif isinstance(node, tirx.Select):
        found["select"] += 1
    elif isinstance(node, tirx.Not):
        found["logic"] += 1
    elif isinstance(node, tvm.ir.Call):
        name = str(getattr(node.op, "name", "")).rpartition(".")[2]
        found[f"call.{name or 'extern'}"] += 1
    for child in children(node):
        found.update(calls_and_operations(child))
    return found


@dataclass(frozen=True)
class Linear:
    """A sum of variables times whole numbers, and a constant.

    Attributes
    ----------
    coefficients : mapping
        Variable -> factor, none of them 0.
    constant : int
        What is added.
    """

    coefficients: Mapping[Any, int]
    constant: int


def linear(node: Any) -> Linear | None:
    """Take an index apart; None when it is not linear in its variables."""
    if isinstance(node, tirx.IntImm):
        return Linear({}, int(node.value))
    if isinstance(node, tirx.Var):
        return Linear({node: 1}, 0)
    if isinstance(node, tirx.Cast):
        return linear(node.value)
    if isinstance(node, tirx.Add | tirx.Sub):
        sign = 1 if isinstance(node, tirx.Add) else -1
        a, b = linear(node.a), linear(node.b)
        if a is None or b is None:
            return None
        joined = Counter(a.coefficients)
        for variable, factor in b.coefficients.items():
            joined[variable] += sign * factor
        kept = {variable: factor for variable, factor in joined.items() if factor}
        return Linear(kept, a.constant + sign * b.constant)
    if isinstance(node, tirx.Mul):
        a, b = linear(node.a), linear(node.b)
        if a is None or b is None or (a.coefficients and b.coefficients):
            return None
        form, factor = (a, b.constant) if a.coefficients else (b, a.constant)
        scaled = {v: factor * each for v, each in form.coefficients.items() if factor * each}
        return Linear(scaled, form.constant * factor)
    return None
