"""Networks from torch compute what torch computes: promotions, indices, types, arguments."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from sampled_database import TARGET

from costmodels.errors import InputError
from tvm_integration.collect.candidates import CandidateSource
from tvm_integration.compat import tvm
from tvm_integration.compile.build import build, fuse
from tvm_integration.compile.execution import compare_outputs, run
from tvm_integration.frontends.torch_program import from_torch
from tvm_integration.targets import host_target
from tvm_integration.tune.network_timing import checked_untuned

RNG = torch.Generator().manual_seed(0)


class Net(torch.nn.Module):
    """Calls a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def check(function, *inputs, tolerance=None):
    network = from_torch("net", Net(function).eval(), inputs, {})
    built = build(fuse(network.module, TARGET))
    got = run(built, network.inputs)
    with torch.no_grad():
        expected = function(*inputs)
    expected = [each.numpy() for each in torch.utils._pytree.tree_leaves(expected)]
    found = compare_outputs(got, expected, tolerance=tolerance)
    assert found.match, found.reason


def check_each(functions, *inputs):
    """All as one network, which is built once; one by one where that fails, to say which."""
    try:
        check(lambda *x: [each(*x) for each in functions], *inputs)
    except (AssertionError, InputError):
        for function in functions:
            check(function, *inputs)
        raise


def whole(*shape, low=-9, high=9, dtype=torch.int64):
    return torch.randint(low, high, shape, generator=RNG, dtype=dtype)


def real(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=RNG).to(dtype)


def flags(*shape):
    return torch.rand(*shape, generator=RNG) > 0.5


OF_WHOLE_NUMBERS = [
    lambda i: i * 0.5,
    lambda i: 2.5 * i,
    lambda i: i + 0.25,
    lambda i: i - 0.25,
    lambda i: 1.5 - i,
    lambda i: i / 2,
    lambda i: i / 2.5,
    lambda i: 7 / (i + 20),
    lambda i: i < 1.5,
    lambda i: i >= 0.5,
    lambda i: i == 2.0,
    lambda i: i**2,
    lambda i: (1 - i) * -10000.0,
    lambda i: torch.clamp(i, min=0.5),
    lambda i: torch.clamp(i, -1.5, 2.5),
    lambda i: i.float() * i,
    lambda i: torch.where(i > 0, i, 0.5),
    lambda i: torch.sigmoid(i),
    lambda i: torch.exp(i),
    lambda i: torch.log(i + 20),
    lambda i: torch.div(i, 2, rounding_mode="floor"),
    lambda i: torch.div(i, 2, rounding_mode="trunc"),
    lambda i: i // 3,
    lambda i: i % 4,
    lambda i: torch.cumsum(i, 1),
    lambda i: i.sum(1),
]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_whole_numbers_with_scalars(dtype):
    check_each(OF_WHOLE_NUMBERS, whole(3, 4, dtype=dtype))


OF_TRUTH_VALUES = [
    lambda b: b * 2.5,
    lambda b: b.sum() / b.numel(),
    lambda b: b == b.flip(0),
    lambda b: torch.cumsum(b, 1),
    lambda b: b.sum(0),
    lambda b: b.any(),
    lambda b: b.any(1),
    lambda b: b.all(1, keepdim=True),
    lambda b: (1.0 - b.float()) * -10000.0,
    lambda b: torch.where(b, 1.0, 0),
    lambda b: b * b.flip(0),
    lambda b: b + b.flip(0),
    lambda b: torch.maximum(b, b.flip(0)),
    lambda b: torch.minimum(b, b.flip(0)),
]


def test_truth_values():
    check_each(OF_TRUTH_VALUES, flags(3, 5))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.uint8])
def test_sums_of_small_whole_numbers_do_not_wrap(dtype):
    i = torch.full((3, 200), 100, dtype=dtype)
    check(lambda i: i.sum(1), i)
    check(lambda i: torch.cumsum(i, 1), i)


FROM_THE_END = [
    lambda x: x[-1],
    lambda x: x[:, -1],
    lambda x: x[:, -2:],
    lambda x: x[torch.tensor([0, -1, -2])],
    lambda x: x[:, torch.tensor([-1, 1])],
    lambda x: x[torch.tensor([-1, 0]), torch.tensor([1, -3])],
    lambda x: x[0].clone().index_put((torch.tensor([0, -1]), torch.tensor([-2, 1])), x[0, 0, :2]),
]


def test_indices_from_the_end():
    check_each(FROM_THE_END, real(4, 5, 6))


def test_a_number_is_put_where_a_mask_is_true():
    def clipped(x):
        y = x.clone()
        y[y > 0] = 0.5
        return y

    check(clipped, real(4, 5))
    check(lambda x: torch.isfinite(1 / x.relu()), real(4, 5))


def test_indices_that_are_computed_are_wrapped():
    check(lambda x, i: x[i], real(5, 3), whole(7, low=-5, high=5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int32, torch.int64])
@pytest.mark.parametrize("which", ["mm", "bmm", "matmul"])
def test_products_keep_their_type(dtype, which):
    shapes = ((4, 5), (5, 3)) if which == "mm" else ((2, 4, 5), (2, 5, 3))
    make = real if dtype.is_floating_point else whole
    check(getattr(torch, which), *(make(*shape, dtype=dtype) for shape in shapes))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_layer_with_a_bias_keeps_its_type(dtype):
    layer = torch.nn.Linear(8, 4).to(dtype)
    network = from_torch("net", layer.eval(), (real(3, 8, dtype=dtype),), {})
    assert str(network.module["main"].ret_ty.dtype) == str(dtype).removeprefix("torch.")
    (got,) = run(build(fuse(network.module, TARGET)), network.inputs)
    with torch.no_grad():
        expected = layer(torch.from_numpy(network.inputs[0])).numpy()
    assert compare_outputs([got], [expected]).match


OF_HALVES = [
    *(torch.tanh, torch.sigmoid, torch.exp, torch.erf, torch.sin, torch.tril),
    *(torch.nn.functional.gelu, torch.nn.functional.silu, torch.nn.functional.selu),
    lambda x: torch.rsqrt(x.abs() + 1),
    lambda x: torch.log(x.abs() + 1),
    lambda x: x**2 + x.abs() ** 0.5,
    lambda x: x * 2.5 / 3 - 1,
    lambda x: x.clamp(-0.5, 0.5),
    lambda x: torch.where(x > 0.5, x, 0.25),
    lambda x: x.masked_fill(x > 0, float("-inf")).softmax(-1),
    lambda x: x + torch.arange(8, dtype=x.dtype),
    lambda x: x.var(-1) + x.mean(-1) + x.sum(-1),
    lambda x: x * x.float(),
    lambda x: x == x.abs(),
]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_elements_keep_their_type(dtype):
    check_each(OF_HALVES, real(2, 8, dtype=dtype))


def test_what_has_no_such_type_is_refused_by_it():
    double = real(1, 3, 8, 8, dtype=torch.float64)
    check(lambda x: torch.nn.functional.layer_norm(x, (8,)), double.half())
    with pytest.raises(InputError, match="layer_norm: only support float32 and float16"):
        check(lambda x: torch.nn.functional.layer_norm(x, (8,)), double)
    for bias in (True, False):
        with pytest.raises(InputError, match="float64"):
            check(torch.nn.Conv2d(3, 4, 3, bias=bias).double(), double)


def test_a_convolution_of_halves():
    layer = torch.nn.Conv2d(3, 4, 3, padding=1).half()
    check(lambda x: layer(x), real(1, 3, 8, 8, dtype=torch.float16))


LACKING = [
    lambda x: torch.amax(x, 1),
    lambda x: torch.amax(x, (1, 2), keepdim=True),
    lambda x: torch.amin(x, -1),
    lambda x: torch.min(x, 1)[0],
    lambda x: torch.min(x, 1)[1],
    lambda x: torch.max(x, 1)[0],
    lambda x: torch.any(x > 0, 1),
    lambda x: torch.prod(x, 1),
    lambda x: torch.logsumexp(x, 1),
    lambda x: torch.nn.functional.adaptive_max_pool2d(x, 2),
    lambda x: torch.zeros(2, 4, 6, 6).scatter_add(3, torch.zeros(2, 4, 6, 6).long() + 2, x),
    *(
        (lambda x, p=p: torch.cdist(x[0, 0], x[0, 1], p=p))
        for p in (0.0, 1.0, 2.0, 3.0, float("inf"))
    ),
    lambda x: x.unfold(3, 3, 2),
    lambda x: torch.nn.functional.group_norm(x, 2),
    lambda x: torch.floor_divide(x, 3),
    lambda x: torch.nn.functional.unfold(x, 3),
]


def test_operators_that_the_importer_lacks():
    check_each(LACKING, real(2, 4, 6, 6))


LEFT_OUT = [
    lambda x: torch.add(x, x.exp(), alpha=2),
    lambda x: torch.sub(x, x.exp(), alpha=0.5),
    lambda x: torch.rsub(x, 3, alpha=2),
    lambda x: torch.addmv(x[0, 0, 0], x[0, 0].t(), x[0, 1, 1], alpha=2, beta=3),
    lambda x: torch.nn.functional.selu(x),
    lambda x: torch.nn.functional.elu(x, alpha=0.7),
    lambda x: torch.clamp(x, 0.5, -0.5),
    lambda x: torch.nn.functional.avg_pool2d(x, 3, 2, 1, divisor_override=5),
    lambda x: torch.nn.functional.avg_pool2d(x, 3, 2, ceil_mode=True, divisor_override=2),
    lambda x: torch.nn.functional.avg_pool3d(x[None], 2, divisor_override=5),
    lambda x: torch.var_mean(x, (1, 2), correction=0),
]


def test_arguments_that_the_importer_leaves_out():
    check_each(LEFT_OUT, real(2, 4, 6, 6))


NORMS = [
    lambda x: torch.nn.functional.group_norm(x, 2),
    lambda x: torch.nn.functional.group_norm(x[0].flatten(1)[None], 2),
    lambda x: torch.nn.functional.instance_norm(x),
    lambda x: torch.nn.functional.batch_norm(x, None, None, training=True),
    lambda x: torch.nn.functional.layer_norm(x, (7, 9)),
]


def test_norms_around_a_mean_far_above_the_spread():
    """TVM takes the mean of the squares less the square of the mean: NaN at a thousand times."""
    x = real(2, 4, 7, 9)
    check_each(NORMS, x)
    check_each(NORMS, x + 1000)


@pytest.mark.parametrize("norm", NORMS[:4])
def test_the_norm_of_equal_numbers_is_zero(norm):
    network = from_torch("net", Net(norm).eval(), (torch.full((2, 4, 7, 9), 77.7),), {})
    (found,) = run(build(fuse(network.module, TARGET)), network.inputs)
    assert abs(found).max() == 0


def test_an_encoder_with_hidden_inputs_equals_its_reference():
    """Torch's fast path writes zeros for them; what torch exports does not."""
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    encoder = torch.nn.TransformerEncoder(layer, 1).eval()
    hidden = torch.arange(6)[None] >= torch.tensor([[6], [4]])
    network = from_torch(
        "net",
        Net(lambda x, mask: encoder(x, src_key_padding_mask=mask)).eval(),
        (real(2, 6, 16), hidden),
        {},
    )
    got = run(build(fuse(network.module, TARGET)), network.inputs)
    assert compare_outputs(got, network.reference.run(network.inputs)).match
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_a_factor_of_whole_numbers(dtype):
    check(lambda i: torch.add(i, i + 1, alpha=3), whole(3, 4, dtype=dtype))


RESIZES = [
    {"scale_factor": 2, "mode": "nearest"},
    {"scale_factor": 0.3, "mode": "nearest"},
    {"scale_factor": 1.3, "mode": "nearest"},
    {"size": (5, 13), "mode": "nearest"},
    {"size": (5, 13), "mode": "nearest-exact"},
    {"size": (5, 13), "mode": "bilinear"},
    {"size": (5, 13), "mode": "bilinear", "align_corners": True},
    {"scale_factor": 2, "mode": "bilinear"},
    {"scale_factor": 0.5, "mode": "bilinear"},
    {"scale_factor": 1.3, "mode": "bilinear"},
    {"scale_factor": 1.3, "mode": "bilinear", "align_corners": True},
    {"scale_factor": 1.3, "mode": "bicubic"},
    {"size": (5, 13), "mode": "bicubic"},
    {"size": (5, 13), "mode": "area"},
    *(
        {**size, "mode": mode, "antialias": True, "align_corners": corners}
        for size, mode, corners in (
            ({"size": (3, 4)}, "bilinear", False),
            ({"size": (3, 4)}, "bicubic", True),
            ({"size": (5, 13)}, "bilinear", True),
            ({"scale_factor": 0.4}, "bilinear", False),
            ({"scale_factor": 0.4}, "bicubic", False),
        )
    ),
    {"size": (7, 9), "mode": "bicubic", "antialias": True},
]


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (lambda x: torch.randn_like(x) + x, "randn_like"),
        (lambda x: torch.nn.functional.dropout(x, 0.5, training=True), "dropout"),
        (lambda x: torch.nn.functional.gumbel_softmax(x), "exponential"),
        (lambda x: torch.bernoulli(x.sigmoid()), "bernoulli"),
    ],
)
def test_what_draws_numbers_is_refused(function, named):
    with pytest.raises(InputError, match=rf"give the same numbers each time, got {named}"):
        from_torch("net", Net(function).eval(), (real(3, 4),), {})


def test_dropout_that_is_idle_is_none():
    check_each(
        [
            lambda x: torch.nn.functional.dropout(x, 0.5, training=False) + 1,
            lambda x: torch.nn.functional.scaled_dot_product_attention(x, x, x),
            lambda x: torch.nn.functional.alpha_dropout(x, 0.5, training=False) + 2,
        ],
        real(1, 3, 4),
    )


def test_the_place_of_the_largest_among_infinities_alone():
    """As attention masks leave them: TVM gives -1, which a lookup then reads."""
    x = real(3, 5)
    x[1] = -torch.inf
    x[2, :4] = -torch.inf
    check_each(
        [
            lambda x: x.argmax(1),
            lambda x: x.argmax(),
            lambda x: (-x).argmin(1, keepdim=True),
            lambda x: x.gather(1, x.argmax(1, keepdim=True)).clamp(min=-9),
            lambda x: x.half().argmax(1),
            lambda x: (x > 0).to(torch.int32).argmax(1),
        ],
        x,
    )


def test_halves_are_summed_as_torch_sums_them():
    """In halves themselves 20,000 of them add up to 2,048."""
    check_each(
        [
            lambda x: x.sum(),
            lambda x: x.sum(1),
            lambda x: x.mean(1),
            lambda x: x.norm(),
            lambda x: (20 * x).var(1),
            lambda x: torch.ones_like(x).cumsum(1),
            lambda x: torch.nn.functional.cosine_similarity(x, x.flip(1)),
            lambda x: torch.nn.functional.avg_pool2d(9 * x.reshape(1, 2, 100, 100), 50),
            lambda x: torch.nn.functional.adaptive_avg_pool2d(9 * x.reshape(1, 2, 100, 100), 1),
        ],
        torch.rand(1, 20000, generator=RNG).half(),
    )


def test_what_the_runtime_cannot_run_is_told():
    network = from_torch("net", Net(lambda x: (x > 0).sort(1).values).eval(), (real(3, 4),), {})
    with pytest.raises(InputError, match=r"the built network must run, got .*dtype"):
        checked_untuned(network, fuse(network.module, host_target()))


def test_resizes():
    """By the scale where torch goes by it, by the pixel before, over all pixels covered."""
    resize = torch.nn.functional.interpolate
    check_each([partial(resize, **options) for options in RESIZES], real(1, 2, 7, 9))


@pytest.mark.parametrize(
    ("shape", "repeats"),
    [
        ((7, 8, 4, 6), (4, 3, 4, 3)),  # wrong for AVX-512 as one kernel
        ((3,), (2, 3, 2)),
        ((3, 4), (1, 1)),
        ((5, 33), (1, 4)),
    ],
)
def test_a_tile_is_made_axis_by_axis(shape, repeats):
    x = real(*shape)
    check(lambda x: x.repeat(*repeats), x)
    network = from_torch("net", Net(lambda x: x.repeat(*repeats)).eval(), (x,), {})
    (task,) = fuse(network.module, host_target()).tasks
    programs = CandidateSource(task.mod, host_target(), name="tile", rng=np.random.default_rng(0))
    for candidate in programs.random(3):
        got = tvm.runtime.tensor(np.zeros_like(x.repeat(*repeats).numpy()))
        tvm.tirx.build(candidate.sch.mod, host_target())["main"](tvm.runtime.tensor(x.numpy()), got)
        np.testing.assert_array_equal(got.numpy(), x.repeat(*repeats).numpy())
    stages = re.findall(r'T\.sblock\("T_tile', str(task.mod))
    assert len(stages) == max(1, sum(each != 1 for each in repeats))


def test_a_masked_mean():
    check(
        lambda x, mask: (x * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True).clamp(min=1),
        real(2, 5, 3),
        whole(2, 5, low=0, high=2),
    )


def test_grids_are_right_or_refused():
    def sampled(x):
        theta = torch.tensor([[[1.0, 0.1, 0.0], [0.0, 1.0, 0.2]]])
        grid = torch.nn.functional.affine_grid(theta, (1, 2, 6, 4), align_corners=False)
        return torch.nn.functional.grid_sample(x, grid, align_corners=False)

    check(sampled, real(1, 2, 5, 5))


def test_an_output_of_another_type_than_torchs_is_refused(monkeypatch):
    from tvm_integration.frontends import torch_program

    monkeypatch.setattr(torch_program, "rewrite_program", lambda program: None)
    with pytest.raises(InputError, match=r"output 0 of net must be float32\[3\], got int64\[3\]"):
        from_torch("net", Net(lambda i: i * 0.5).eval(), (torch.arange(3),), {})
