"""exp, erf, tanh and sigmoid as arithmetic that a CPU's vector units run.

TVM calls the C library for each element of a float32 vector. Here each function is a polynomial or
a quotient of two, in terms of TIR itself, so that programs, records and libraries need nothing of
this project. `scripts/fit_vector_math.py` fits the coefficients; the bounds are checked by
`tests/tvm_integration/compile/test_vector_math.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tvm_integration.compat import IRModule, estimate_tir_flops, structural_map, tvm
from tvm_integration.compile.fusion import FusedNetwork, fused_tasks

tirx = tvm.tirx

MAX_RELATIVE_ERROR = 4e-7
"""Of each function, wherever its value is above `SMALLEST_EXP`."""
SMALLEST_EXP = 2.5e-38
"""What exp gives is this at least, or 0."""
_SMALLEST_ARGUMENT = -86.6
"""exp of it is just above `SMALLEST_EXP`."""


def has_vector_math(target: tvm.target.Target) -> bool:
    """Tell whether kernels of a target are rewritten: on CPUs. GPUs have such instructions."""
    return bool(target.kind.name == "llvm")


def with_vector_math(fused: FusedNetwork) -> FusedNetwork:
    """Rewrite a fused network's kernels.

    Parameters
    ----------
    fused : FusedNetwork
        From `fuse`.

    Returns
    -------
    FusedNetwork
        Kernels that call none of the functions are as before, and so are their tasks; the others
        are tasks of their own, whose records do not mix with those of the library's.
    """
    if not has_vector_math(fused.target):
        return fused
    module = rewrite_module(fused.module)
    return replace(fused, module=module, tasks=fused_tasks(module, fused.target))


def rewrite_module(module: IRModule) -> IRModule:
    """Rewrite each kernel of a module with `rewrite_function`."""
    changed = module
    for variable, function in module.functions.items():
        if isinstance(function, tvm.tirx.PrimFunc):
            rewritten = rewrite_function(function)
            if rewritten is not function:
                changed = module.clone() if changed is module else changed
                changed.update_func(variable, rewritten)
    return changed


def may_be_rewritten(workload: str) -> bool:
    """Tell from a module's JSON, without loading it, whether `rewrite_module` may change it."""
    return any(name in workload for name in _FORMULAS)


def rewrite_function(function: tvm.tirx.PrimFunc) -> tvm.tirx.PrimFunc:
    """Replace calls of float32 exp, erf, tanh and sigmoid.

    Returns
    -------
    PrimFunc
        The same object where it has none of them, or TVM cannot tune it. Results differ from the
        library's by at most `MAX_RELATIVE_ERROR`.
    """
    found = False

    def replaced(call: Any) -> Any:
        nonlocal found
        formula = _FORMULAS.get(getattr(call.op, "name", ""))
        if formula is None or str(call.ty) != "float32":
            return call
        found = True
        return formula(call.args[0])

    body = structural_map(function.body, [(tvm.ir.Call, replaced)])
    if not found:
        return function
    try:
        # TVM's count of operations fails at a `Let`, and is for people only.
        flops = int(estimate_tir_flops(IRModule({"main": function})))
    except tvm.error.InternalError:  # it would not be tuned, either
        return function
    return function.with_body(body).with_attr("estimated_flops", flops)


def _number(value: float) -> Any:
    return tirx.const(value, "float32")


def _named(value: Any, body: Callable[[Any], Any]) -> Any:
    """Compute a value once for all its uses."""
    variable = tirx.Var("x", "float32")
    return tirx.Let(variable, value, body(variable))


def _polynomial(coefficients: Sequence[float], x: Any) -> Any:
    """By Horner's rule; the constant first."""
    value = _number(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + _number(coefficient)
    return value


def _clamped(x: Any, least: float, most: float) -> Any:
    """By comparisons, which leave NaN as it is."""
    return tirx.Select(
        x < _number(least),
        _number(least),
        tirx.Select(x > _number(most), _number(most), x),
    )


_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
"""Their sum is ln 2; the first has so few digits that whole multiples of it are exact."""
_ROUNDING = 12582912.0
"""1.5 * 2**23: what is added to it is rounded to a whole number, in its lowest bits."""
_ROUNDING_BITS = 0x4B400000
_OVERFLOWS = 89.0
"""exp of it is infinite."""
_EXP = (0.499999930502, 0.166665147862, 0.0416684568923, 0.00836941930981, 0.00138131395905)
"""Of (exp(r) - 1 - r) / r**2 for |r| up to ln(2) / 2."""


def _exp(argument: Any) -> Any:
    """2**n * exp(r) with n whole and r = x - n ln 2."""

    def of(x: Any) -> Any:
        return _named(_clamped(x, _SMALLEST_ARGUMENT, _OVERFLOWS), lambda inside: scaled(inside))

    def scaled(x: Any) -> Any:
        return _named(
            x * _number(_LOG2_E) + _number(_ROUNDING),
            lambda rounded: _named(
                rounded - _number(_ROUNDING),
                lambda n: _named(
                    x - n * _number(_LN2_HIGH) - n * _number(_LN2_LOW),
                    # 2**n in two factors: n = 128 has no exponent of its own.
                    lambda r: (
                        (_polynomial(_EXP, r) * r * r + r + _number(1.0))
                        * half_power(rounded)
                        * _number(2.0)
                    ),
                ),
            ),
        )

    def half_power(rounded: Any) -> Any:
        bits = tirx.reinterpret("int32", rounded)
        exponent = bits + tirx.const(126 - _ROUNDING_BITS, "int32")
        return tirx.reinterpret("float32", exponent << tirx.const(23, "int32"))

    return _named(
        argument,
        lambda x: tirx.Select(x < _number(_SMALLEST_ARGUMENT), _number(0.0), of(x)),
    )


def _odd_quotient(
    most: float, numerator: Sequence[float], denominator: Sequence[float]
) -> Callable[[Any], Any]:
    """x * P(x**2) / Q(x**2) for |x| up to `most`, as there beyond, and never above 1."""

    def quotient(x: Any) -> Any:
        return _named(
            x * x,
            lambda square: x * _polynomial(numerator, square) / _polynomial(denominator, square),
        )

    def formula(argument: Any) -> Any:
        inside = _named(argument, lambda x: _clamped(x, -most, most))
        return _named(_named(inside, quotient), lambda value: _clamped(value, -1.0, 1.0))

    return formula


_erf = _odd_quotient(
    3.93,
    (
        1.12837914548,
        0.190771567066,
        0.0527884580733,
        0.0037790280884,
        0.000284786406484,
        2.04194513631e-6,
    ),
    (
        1.0,
        0.502399621957,
        0.114252267061,
        0.0149962791136,
        0.00116505485862,
        3.8002648676e-5,
    ),
)
_tanh = _odd_quotient(
    9.0,
    (
        0.999999979424,
        0.133810495394,
        0.00349561507953,
        2.06094681427e-5,
        1.33550895377e-8,
    ),
    (1.0, 0.467143651701, 0.0258770884767, 0.000328567639551, 7.77675592669e-7),
)


def _sigmoid(argument: Any) -> Any:
    return _number(1.0) / (_number(1.0) + _exp(_number(0.0) - argument))


_FORMULAS: Mapping[str, Callable[[Any], Any]] = {
    "tirx.exp": _exp,
    "tirx.erf": _erf,
    "tirx.tanh": _tanh,
    "tirx.sigmoid": _sigmoid,
}
