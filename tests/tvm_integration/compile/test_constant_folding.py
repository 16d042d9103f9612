"""Operators of constants are computed once, and to the same values as TVM computes them."""

import pytest
import torch
from sampled_database import TARGET

from tvm_integration.compat import IRModule, structural_equal, tvm
from tvm_integration.compile.fusion import fusion_passes
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.threads import unbound


class Constants(torch.nn.Module):
    """Operators of weights alone: of several types, outputs and shapes, one after the other."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.wide = torch.nn.Parameter(torch.randn(1, 64, generator=generator))
        self.short = torch.nn.Parameter(torch.randn(8, generator=generator).half())
        self.rounded = torch.nn.Parameter(torch.randn(8, generator=generator).bfloat16())
        self.index = torch.nn.Buffer(torch.arange(5))

    def forward(self, x):
        largest, where = torch.topk(self.wide, 3)
        first, second = torch.split(3 * self.wide, 32, 1)
        return (
            x + 2 * self.wide.expand(500, 64),
            largest + x[:1, :3],
            where,
            first + second,
            2 * self.short,
            2 * self.rounded,
            self.wide[0][self.index] // 2,
            self.wide > 0,
            torch.cumsum(self.wide, 1),
            torch.full((2, 2), 3.0),
        )


def fused(module: IRModule, *, own: bool = True) -> tuple[IRModule, int]:
    """Fused with our folding or TVM's alone, and how many kernels were built for it."""
    built = []
    build = tvm.get_global_func("tirx.build")  # by which TVM's pass builds; ours calls it directly
    with pytest.MonkeyPatch.context() as patch:

        def counted(*arguments):
            built.append(1)
            return build(*arguments)

        patch.setattr(tvm.tirx, "build", counted)
        tvm.register_global_func("tirx.build", counted, override=True)
        try:
            with TARGET, unbound():
                for each in fusion_passes(TARGET, prepack_weights=True):
                    if own or each.info.name != "FoldConstantCalls":
                        module = each(module)
        finally:
            tvm.register_global_func("tirx.build", build, override=True)
    return module, len(built)


def norm():
    """A batch norm with statistics that are not those it begins with."""
    found = torch.nn.BatchNorm2d(8)
    found.running_mean.normal_()
    found.running_var.uniform_(0.5, 2.0)
    return found


def test_batch_norms_are_computed_as_tvm_does_and_built_together():
    layers = [layer for _ in range(4) for layer in (torch.nn.Conv2d(8, 8, 3), norm())]
    net = torch.nn.Sequential(*layers).eval()
    module = from_torch("net", net, (torch.zeros(1, 8, 12, 12),), {}).module
    ours, few = fused(module)
    theirs, many = fused(module, own=False)
    assert structural_equal(ours, theirs)
    assert (few, many > 12) == (1, True)


def test_operators_of_all_kinds_are_computed_as_tvm_does():
    module = from_torch("net", Constants().eval(), (torch.zeros(500, 64),), {}).module
    assert structural_equal(fused(module)[0], fused(module, own=False)[0])


def test_structural_equality_looks_at_values():
    """Or the tests above would show nothing."""

    def plus(number):
        module = from_torch("net", Plus(number).eval(), (torch.zeros(3, 4),), {}).module
        return fused(module)[0]

    assert structural_equal(plus(1.0), plus(1.0))
    assert not structural_equal(plus(1.0), plus(2.0))


class Plus(torch.nn.Module):
    """Adds three times a weight."""

    def __init__(self, number):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3, 4), number))

    def forward(self, x):
        return x + 3 * self.weight
