"""Operators of constants are computed at compile time: each distinct one is built once.

TVM's `FoldConstant` builds it at each call: a batch norm is six operators of its weights, and a
network has fifty. What this pass leaves, that one folds.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from tvm_integration.compat import IRModule, Target, relax, tvm

_CALL_TIR = tvm.ir.Op.get("relax.call_tir")
_EVALUATED_FOR = Target({"kind": "llvm", "opt-level": 0})
"""As `FoldConstant` does, whatever the network is built for; each kernel runs a few times only, so
that optimizing it takes more time, and memory, than it saves."""


@tvm.transform.module_pass(opt_level=0, name="FoldConstantCalls")
class FoldConstantCalls:
    """Replace each call of a kernel whose arguments are all constants by what it gives."""

    def transform_module(self, module: IRModule, _: tvm.transform.PassContext) -> IRModule:
        """Fold the constants of all Relax functions; called by TVM."""
        folder = _Folder(module)
        for variable, function in module.functions_items():
            if isinstance(function, relax.Function):
                folder.builder_.update_func(variable, folder.visit_expr(function))
        return folder.builder_.get()


@relax.expr_functor.mutator
class _Folder(relax.expr_functor.PyExprMutator):
    """Walks through Relax functions; `module` has the kernels that they call."""

    def __init__(self, module: IRModule) -> None:
        super().__init__(module)
        self._module = module
        self._built = cache(self._build)
        self._together = self._build_together()

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        """Compute what can be computed."""
        call = self.visit_expr_post_order(call)
        if call.op != _CALL_TIR or len(call.args) != 2 or not _is_fixed(call.ty):
            return call
        arguments = [self._constant(each) for each in call.args[1].fields]
        if not arguments or None in arguments:
            return call
        try:
            kernel = self._built(call.args[0])
            found = tvm.runtime.empty([int(n) for n in call.ty.shape.values], str(call.ty.dtype))
            kernel(*arguments, found)
        except Exception:  # LLVM lacks some types: `FoldConstant` leaves such a call, and so do we
            return call
        return relax.const(found)

    def _constant(self, argument: relax.Expr) -> tvm.runtime.Tensor | None:
        if isinstance(argument, relax.Var):
            argument = self.lookup_binding(argument)
        return _value(argument)

    def _build(self, variable: tvm.ir.GlobalVar) -> Any:
        if variable.name_hint in self._together:
            return self._together[variable.name_hint]
        kernel = self._module[variable].with_attr("global_symbol", "main")
        return tvm.tirx.build(kernel, _EVALUATED_FOR)["main"]

    def _build_together(self) -> Mapping[str, Any]:
        """All kernels that will be needed, as one library: fifty would take fifty times its memory.

        Empty where one of them cannot be built.
        """
        names = {
            name
            for _, function in self._module.functions_items()
            if isinstance(function, relax.Function)
            for name in _called_with_constants(function)
        }
        if not names:
            return {}
        kernels = {
            name: self._module[name].with_attr("global_symbol", name) for name in sorted(names)
        }
        try:
            library = tvm.tirx.build(IRModule(kernels), _EVALUATED_FOR)
            return {name: library[name] for name in kernels}
        except Exception:
            return {}


def _value(expression: relax.Expr) -> tvm.runtime.Tensor | None:
    """That of a constant."""
    value = getattr(expression, "value", None)
    return value if isinstance(value, tvm.runtime.Tensor) else None


def _called_with_constants(function: relax.Function) -> Iterator[str]:
    """Names of the kernels whose arguments follow from constants alone, outside of branches."""
    known: set[relax.Var] = set()

    def is_known(argument: relax.Expr) -> bool:
        return _value(argument) is not None or argument in known

    for block in function.body.blocks:
        for binding in block.bindings:
            value = getattr(binding, "value", None)
            if isinstance(value, relax.Call):
                if value.op != _CALL_TIR or len(value.args) != 2 or not _is_fixed(value.ty):
                    continue
                fields = value.args[1].fields
                if not fields or not all(map(is_known, fields)):
                    continue
                yield str(value.args[0].name_hint)
            elif not (isinstance(value, relax.Expr) and is_known(value)):
                continue
            known.add(binding.var)


def _is_fixed(ty: Any) -> bool:
    """Whether it is one tensor whose shape is known."""
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return False
    return all(isinstance(n, tvm.tirx.IntImm) for n in ty.shape.values)
