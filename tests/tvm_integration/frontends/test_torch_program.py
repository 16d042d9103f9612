"""Archives of torch.export."""

import numpy as np
import pytest
import torch
from network_checks import assert_equals_reference, error_text

from tvm_integration.frontends.load import load_network


class Affine(torch.nn.Module):
    """Two inputs of which the second comes as a keyword, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(8, 5, generator=generator))
        self.register_buffer("shift", torch.arange(5.0))

    def forward(self, x, *, scale):
        y = torch.relu(x @ self.weight * scale + self.shift)
        return {"y": y, "sum": y.sum(dim=1)}


def affine_program(**options):
    example = {"scale": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])}
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    return torch.export.export(Affine(), (x,), example, **options)


@pytest.mark.usefixtures("workplace")
def test_pt2_round_trip():
    torch.export.save(affine_program(), "net.pt2")
    network = load_network("net.pt2")
    assert network.name == "net"
    assert network.input_names == ("x", "scale")
    assert network.reference.kind == "torch"
    assert_equals_reference(network)
    # The archive's own example inputs, not made up ones.
    assert np.array_equal(network.inputs[1], np.float32([1, 2, 3, 4, 5]))


@pytest.mark.usefixtures("workplace")
def test_pt2_without_example_inputs():
    program = affine_program()
    program.example_inputs = None
    torch.export.save(program, "net.pt2")
    network = load_network("net.pt2", seed=5)
    assert [x.shape for x in network.inputs] == [(3, 8), (5,)]
    assert network.inputs[0].std() > 0
    assert_equals_reference(network)


@pytest.mark.usefixtures("workplace")
def test_pt2_with_a_dynamic_shape():
    batch = torch.export.Dim("batch", max=64)
    program = affine_program(dynamic_shapes={"x": {0: batch}, "scale": None})
    torch.export.save(program, "net.pt2")
    text = error_text("net.pt2")
    assert text.startswith(
        "inputs of net must have fixed shapes, got the symbolic dimensions x[0] (s"
    )
    assert text.endswith("): export it again without dynamic_shapes")


class Counter(torch.nn.Module):
    """Counts its calls: what TVM would build counts nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


@pytest.mark.usefixtures("workplace")
def test_a_network_that_changes_its_buffers_is_refused():
    torch.export.save(torch.export.export(Counter(), (torch.zeros(3),)), "net.pt2")
    assert error_text("net.pt2") == (
        "net must leave its buffers as they are, got a network that changes calls: "
        "export it in eval mode, or return the new values as outputs"
    )


@pytest.mark.usefixtures("workplace")
def test_a_network_that_changes_its_inputs_is_built_with_a_warning(caplog):
    network = torch.nn.Sequential(torch.nn.ReLU(inplace=True), torch.nn.Linear(3, 3))
    torch.export.save(torch.export.export(network, (torch.randn(2, 3),)), "net.pt2")
    assert_equals_reference(load_network("net.pt2"))
    assert "changes its inputs" in caplog.text


def test_damaged_pt2(workplace):
    torch.export.save(affine_program(), "net.pt2")
    whole = (workplace / "net.pt2").read_bytes()
    (workplace / "cut.pt2").write_bytes(whole[: len(whole) // 2])
    assert error_text("cut.pt2") == (
        "cut.pt2 must be an archive of torch.export.save, got a truncated or other file: "
        "save it again"
    )
    # Whole as a zip, wrong inside.
    import zipfile

    with zipfile.ZipFile("other.pt2", "w") as archive:
        archive.writestr("hello.txt", "no network")
    text = error_text("other.pt2")
    assert text.startswith("other.pt2 must be an archive of torch.export.save, got ")
    assert ": save it again with torch 2." in text
