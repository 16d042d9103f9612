"""The zoo: standard sizes, deterministic weights, inputs that matter."""

import subprocess
import sys

import pytest
import torch

from costmodels.errors import InputError
from tvm_integration import zoo

SMALL = {
    "bert_tiny": {"sequence": 16},
    "mixer_s32": {"image": 64},
    "mlp": {},
    "mobilenet_v2": {"image": 32},
    "resnet18": {"image": 32},
    "resnet50": {"image": 32},
    "vit_tiny": {"image": 32},
}

# As published: torchvision's models for the first three of vision, timm's deit_tiny_patch16_224
# and mixer_s32_224 (19.1 M), google/bert_uncased_L-2_H-128_A-2.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "vit_tiny": 5_717_416,
    "mixer_s32": 19_104_624,
    "bert_tiny": 4_385_920,
    "mlp": 784 * 800 + 800 + 800 * 800 + 800 + 800 * 10 + 10,
}


def outputs(network, inputs):
    with torch.no_grad():
        result = network(*inputs)
    return list(result) if isinstance(result, tuple) else [result]


def test_names_are_sorted_and_complete():
    assert zoo.zoo_names() == tuple(sorted(PARAMETERS))
    assert {"resnet18", "mobilenet_v2", "bert_tiny", "vit_tiny", "mlp"} <= set(zoo.zoo_names())


@pytest.mark.parametrize("name", zoo.zoo_names())
def test_default_size_has_the_published_number_of_parameters(name):
    # Those of a convolutional network or a BERT do not depend on the size of the input.
    options = {} if name in ("vit_tiny", "mixer_s32") else SMALL[name]
    network, _ = zoo.build(name, **options)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", zoo.zoo_names())
def test_outputs_are_finite_and_depend_on_the_input(name):
    network, inputs = zoo.build(name, **SMALL[name])
    assert not network.training
    if inputs[0].is_floating_point():
        other = (torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1)),)
    else:
        other = ((inputs[0] + 1) % 1000,)
    for ours, theirs in zip(outputs(network, inputs), outputs(network, other), strict=True):
        assert torch.isfinite(ours).all()
        scale = ours.abs().max()
        assert 1e-2 < scale < 1e3
        assert (ours - theirs).abs().max() > 0.05 * scale


@pytest.mark.parametrize("name", ["bert_tiny", "resnet18"])
def test_weights_and_inputs_follow_the_seed_and_torch_is_left_alone(name):
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first, first_inputs = zoo.build(name, seed=7, **SMALL[name])
    again, again_inputs = zoo.build(name, seed=7, **SMALL[name])
    other, other_inputs = zoo.build(name, seed=8, **SMALL[name])
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
    assert torch.equal(first_inputs[0], again_inputs[0])
    assert not torch.equal(first_inputs[0], other_inputs[0])
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", zoo.zoo_families())
def test_every_number_of_a_family_is_another_network(name):
    shapes = set()
    for number in range(1, 9):
        network, inputs = zoo.build(name, number=number)
        (result,) = outputs(network, inputs)
        assert torch.isfinite(result).all()
        assert result.std() > 1e-3
        parameters = tuple(tuple(p.shape) for p in network.parameters())
        shapes.add((parameters, tuple(inputs[0].shape)))
    assert len(shapes) >= 7
    again, _ = zoo.build(name, number=1)
    first, _ = zoo.build(name, number=1)
    assert [p.shape for p in again.parameters()] == [p.shape for p in first.parameters()]


def test_weights_of_a_convolutional_network_do_not_depend_on_batch_and_image():
    small, _ = zoo.build("resnet18", image=32)
    large, inputs = zoo.build("resnet18", image=64, batch=2)
    assert inputs[0].shape == (2, 3, 64, 64)
    for key, value in small.state_dict().items():
        assert torch.equal(value, large.state_dict()[key]), key


def test_unknown_name_lists_the_names_and_the_nearest():
    with pytest.raises(InputError) as error:
        zoo.build("resnet81")
    families = ", ".join(zoo.zoo_families())
    assert str(error.value) == (
        "zoo network must be one of bert_tiny, mixer_s32, mlp, mobilenet_v2, resnet18, resnet50, "
        f"vit_tiny, or of a family with a number ({families}), got 'resnet81': did you mean "
        "zoo:resnet18?"
    )


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        (
            "mlp",
            {"image": 32},
            "option of zoo:mlp must be one of batch, got 'image': write zoo:mlp,batch=NUMBER",
        ),
        ("mlp", {"batch": 0}, "batch of zoo:mlp must be at least 1, got 0: the default is 1"),
        (
            "vit_tiny",
            {"image": 100},
            "image of zoo:vit_tiny must be a multiple of 16, got 100: the default is 224",
        ),
    ],
)
def test_bad_options(name, options, text):
    with pytest.raises(InputError) as error:
        zoo.build(name, **options)
    assert str(error.value) == text


def test_listing_and_checking_need_no_torch():
    code = (
        "import sys; from tvm_integration.frontends.model_spec import check_model_name; "
        "check_model_name('zoo:resnet18,image=64'); "
        "print([m for m in ('torch', 'tvm', 'onnx', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
