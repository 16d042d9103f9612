"""MODEL -> network: every form of it, and every way it can be wrong."""

import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from costmodels.errors import InputError
from tvm_integration import reference
from tvm_integration.compat import relax, tvm
from tvm_integration.frontend import check_model_name, load_network


def run_untuned(network) -> list[np.ndarray]:
    """Compile as TVM does by default and run: independent of our own pipeline."""
    executable = tvm.compile(network.module, target="llvm")
    arguments = [tvm.runtime.tensor(x) for x in network.inputs]
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](*arguments)
    results = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [x.numpy() for x in results]


def assert_equals_reference(network) -> None:
    expected = network.reference.run(network.inputs)
    got = run_untuned(network)
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert theirs.std() > 0
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def error_text(model: str, **options) -> str:
    with pytest.raises(InputError) as error:
        load_network(model, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty working directory; sys.path and the imported modules come back as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("users_"):
            del sys.modules[name]


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


# zoo


@pytest.mark.parametrize("model", ["zoo:mlp,batch=3", "zoo:bert_tiny,sequence=16"])
def test_zoo_network(model):
    network = load_network(model, seed=3)
    assert network.name == check_model_name(model).name
    assert network.reference.kind == "torch"
    assert len(network.input_names) == len(network.inputs) == 1
    assert_equals_reference(network)
    again = load_network(model, seed=3)
    assert np.array_equal(network.inputs[0], again.inputs[0])
    seconds = network.reference.measure_s(3, min_repeat_ms=5)
    assert len(seconds) == 3
    assert all(0 < s < 10 for s in seconds)


def test_weights_are_constants_of_the_module():
    module = load_network("zoo:mlp").module
    assert len(module["main"].params) == 1
    assert "num_input" not in (module["main"].attrs or {})


# Names that are wrong before anything is imported


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            "resnet18",
            "MODEL must be zoo:NAME, hf:ConfigName, FILE.onnx, FILE.pt2 or module:function, "
            "got 'resnet18': did you mean zoo:resnet18?",
        ),
        (
            "weights.bin",
            "MODEL must be zoo:NAME, hf:ConfigName, FILE.onnx, FILE.pt2 or module:function, "
            "got 'weights.bin': the zoo has bert_tiny, mixer_s32, mlp, mobilenet_v2, resnet18, "
            "resnet50, vit_tiny",
        ),
        (
            "zoo:resnet19",
            "zoo network must be one of bert_tiny, mixer_s32, mlp, mobilenet_v2, resnet18, "
            "resnet50, vit_tiny, got 'resnet19': did you mean zoo:resnet18?",
        ),
        (
            "zoo:mlp,batch",
            "an option of MODEL must be key=value, got 'batch': write zoo:mlp,key=value",
        ),
        (
            "zoo:mlp,batch=two",
            "batch of mlp must be a whole number, got 'two': write batch=1, for example",
        ),
        (
            "zoo:mlp,batch=1,batch=2",
            "option batch of MODEL must be given once, got it twice in 'zoo:mlp,batch=1,batch=2'",
        ),
        (
            "zoo:mlp,batch=-1",
            "batch of zoo:mlp must be at least 1, got -1: the default is 1",
        ),
        (
            "users_missing:build",
            "module of MODEL must be importable, got 'users_missing:build' and no module "
            "'users_missing': run in its directory or put it on PYTHONPATH",
        ),
        (
            "hf:",
            "hf: must be followed by a configuration class of transformers, got '': "
            "write hf:BertConfig, for example",
        ),
    ],
)
def test_bad_names(model, text):
    assert error_text(model) == text


def test_missing_empty_and_directory(workplace):
    assert error_text("net.onnx") == (
        f"MODEL must be an existing file, got 'net.onnx': "
        f"check the path, the working directory is {workplace}"
    )
    (workplace / "empty.pt2").touch()
    assert error_text("empty.pt2") == (
        "empty.pt2 must hold a network, got an empty file: write it again"
    )
    (workplace / "folder.onnx").mkdir()
    assert error_text("folder.onnx") == (
        "MODEL must be a file, got the directory 'folder.onnx': name a file in it"
    )


def test_a_wrong_name_is_refused_without_importing_tvm_or_torch():
    code = """
        import sys
        from tvm_integration.frontend import load_network
        try:
            load_network("zoo:nothing")
        except ValueError:
            print([m for m in ("tvm", "torch", "onnx") if m in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# ONNX


def save_onnx(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def value(name, shape, element=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, element, shape)


def save_convolution(path, shape):
    rng = np.random.default_rng(0)
    weights = [
        onnx.numpy_helper.from_array(rng.standard_normal((4, 3, 3, 3)).astype("float32"), "w"),
        onnx.numpy_helper.from_array(rng.standard_normal(4).astype("float32"), "b"),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["r", "offset"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["pooled"]),
    ]
    inputs = [value("image", shape), value("offset", [shape[0], 4, 1, 1])]
    save_onnx(path, nodes, inputs, [value("s", None), value("pooled", None)], weights)


@pytest.mark.usefixtures("workplace")
def test_onnx_file_equals_onnxruntime(capfd):
    save_convolution("net.onnx", [2, 3, 8, 8])
    network = load_network("net.onnx", seed=1)
    assert capfd.readouterr().out == ""
    assert network.name == "net"
    assert network.input_names == ("image", "offset")
    assert [x.shape for x in network.inputs] == [(2, 3, 8, 8), (2, 4, 1, 1)]
    assert network.reference.kind == "onnxruntime"
    assert_equals_reference(network)
    assert len(network.reference.measure_s(2, min_repeat_ms=1)) == 2
    # What importers attach for parameters would send passes looking for them.
    assert "num_input" not in (network.module["main"].attrs or {})


@pytest.mark.usefixtures("workplace")
def test_onnx_symbolic_dimensions_are_named_and_can_be_given():
    save_convolution("net.onnx", ["batch", 3, None, 8])
    assert error_text("net.onnx") == (
        "inputs of net.onnx must have fixed shapes, got the symbolic dimensions batch (image[0]), "
        "image[2]: give their values, net.onnx,batch=1,image[2]=1"
    )
    network = load_network("net.onnx,batch=2,image[2]=8")
    assert network.inputs[0].shape == (2, 3, 8, 8)
    assert_equals_reference(network)
    assert error_text("net.onnx,size=3") == (
        "option of net.onnx must be one of its symbolic dimensions (batch, image[0], image[2], "
        "offset[0]), got 'size': leave it out"
    )
    assert error_text("net.onnx,batch=0,image[2]=8") == (
        "batch of net.onnx must be at least 1, got 0: write batch=1, for example"
    )


@pytest.mark.usefixtures("workplace")
def test_onnx_operators_that_tvm_does_not_know_are_named():
    nodes = [
        helper.make_node("Hardmax", ["x"], ["h"]),
        helper.make_node("StringNormalizer", ["h"], ["s"]),
        helper.make_node("Det", ["s"], ["d"]),
    ]
    save_onnx("net.onnx", nodes, [value("x", [3, 3])], [value("d", None)])
    text = error_text("net.onnx")
    assert text.startswith("operators of net.onnx must be ones that TVM's ONNX importer knows, got")
    assert "StringNormalizer" in text
    assert text.endswith(": replace them in the graph, or give the network as .pt2")


@pytest.mark.usefixtures("workplace")
def test_onnx_operator_that_fails_is_named_and_stdout_stays_clean(capfd):
    # TVM's importer wants constant pads and only prints which operator it was at.
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    save_onnx(
        "net.onnx",
        nodes,
        [value("x", [4]), value("shape", [2], TensorProto.FLOAT)],
        [value("y", None)],
    )
    text = error_text("net.onnx")
    assert capfd.readouterr().out == ""
    assert text.startswith("TVM must be able to import net.onnx, got ")
    assert text.endswith(" at operator Reshape: export it again, or give the network as .pt2")


def test_truncated_and_foreign_onnx_files(workplace):
    save_convolution("net.onnx", [2, 3, 8, 8])
    whole = (workplace / "net.onnx").read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 40, len(whole) - 3):
        (workplace / "cut.onnx").write_bytes(whole[:length])
        text = error_text("cut.onnx")
        assert "cut.onnx" in text
        assert "export it again" in text
    (workplace / "text.onnx").write_text("this is no network\n" * 10)
    assert error_text("text.onnx").startswith("text.onnx must be an ONNX file with its weights")


@pytest.mark.usefixtures("workplace")
def test_without_onnxruntime_the_network_loads_and_the_reference_says_why(monkeypatch):
    save_convolution("net.onnx", [2, 3, 8, 8])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    network = load_network("net.onnx")
    assert network.reference.kind is None
    assert network.reference.reason == (
        "onnxruntime must be installed to compare outputs and latency, got no such package: "
        "install the extra with `pip install 'costmodels[onnxruntime]'`"
    )
    with pytest.raises(InputError, match="onnxruntime must be installed"):
        network.reference.run(network.inputs)
    with pytest.raises(InputError, match="onnxruntime must be installed"):
        network.reference.measure_s(1)


def test_a_file_onnxruntime_refuses_is_no_reference(workplace):
    (workplace / "net.onnx").write_text("nonsense")
    missing = reference.onnxruntime_reference("net.onnx", ())
    assert missing.kind is None
    assert missing.reason.startswith("onnxruntime must be able to open net.onnx, got ")
    assert "\n" not in missing.reason


# torch.export archives


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


# transformers


def test_hf_network_from_its_configuration():
    network = load_network(
        "hf:BertConfig,hidden_size=32,num_hidden_layers=1,num_attention_heads=2,"
        "intermediate_size=64,vocab_size=100,sequence=12,batch=2",
        seed=2,
    )
    assert network.name == "BertConfig"
    assert network.input_names == ("input_ids", "attention_mask")
    assert network.inputs[0].shape == (2, 12)
    assert network.inputs[0].max() < 100
    assert_equals_reference(network)


def test_hf_vision_network():
    network = load_network(
        "hf:ResNetConfig,hidden_sizes=[8,16],depths=[1,1],image=32,embedding_size=8,layer_type=basic"
    )
    assert network.input_names == ("pixel_values",)
    assert network.inputs[0].shape == (1, 3, 32, 32)
    assert_equals_reference(network)


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("hf:BertConfg", "got 'BertConfg': did you mean hf:BertConfig?"),
        ("hf:BertModel", "got 'BertModel': write hf:BertConfig, for example"),
        ("hf:BertConfig,hidden_sise=3", "got 'hidden_sise': did you mean hidden_size?"),
        ("hf:BertConfig,batch=0", "batch of hf:BertConfig must be a whole number of at least 1"),
        ("hf:BertConfig,num_hidden_layers=many", "hf:BertConfig must accept its options, got "),
        (
            "hf:BertConfig,hidden_size=30,num_attention_heads=4",
            "transformers must be able to build hf:BertConfig, got ValueError",
        ),
        ("hf:CLIPConfig", "give module:function"),
    ],
)
def test_bad_hf_names(model, text):
    assert text in error_text(model)


def test_without_transformers_the_extra_is_named(monkeypatch):
    from tvm_integration import model_name

    monkeypatch.setattr(model_name, "find_spec", lambda _: None)
    assert error_text("hf:BertConfig") == (
        "transformers must be installed for hf:BertConfig, got no such package: "
        "install the extra with `pip install 'costmodels[hf]'`"
    )


# module:function

USERS = """
    import torch
    print("users module is loading")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(6, 4)
            self.dropout = torch.nn.Dropout(0.5)

        def forward(self, x):
            return self.dropout(torch.tanh(self.linear(x)))

    class Branch(torch.nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    class Spectrum(torch.nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    X = torch.linspace(-1, 1, 12).reshape(2, 6)
    number = 3

    def module(): return Net(), (X,)
    def program(): return torch.export.export(Net().eval(), (X,)), (X,)
    def dynamic():
        shapes = {"x": {0: torch.export.Dim("n", max=9)}}
        return torch.export.export(Net().eval(), (X,), dynamic_shapes=shapes), (X,)
    def alone(): return Net()
    def not_a_module(): return "net", (X,)
    def no_tuple(): return Net(), X
    def arrays(): return Net(), (X.numpy(),)
    def broken(): raise RuntimeError("no weights\\nhere")
    def branch(): return Branch(), (X,)
    def spectrum(): return Spectrum(), (X,)
    def halves(): return Net().bfloat16(), (X.bfloat16(),)
"""


@pytest.fixture
def users(workplace):
    (workplace / "users_network.py").write_text(textwrap.dedent(USERS))
    (workplace / "users_broken.py").write_text("import users_not_there\n")
    return workplace


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("function", ["module", "program"])
def test_function_in_the_working_directory(function, capfd):
    network = load_network(f"users_network:{function}")
    assert capfd.readouterr().out == ""
    assert network.name == f"users_network:{function}"
    assert network.reference.kind == "torch"
    # In evaluation mode: dropout would make two runs differ.
    first, second = (network.reference.run(network.inputs)[0] for _ in range(2))
    assert np.array_equal(first, second)
    assert_equals_reference(network)


WRONG_RETURN = (
    "users_network:{} must return (torch.nn.Module or ExportedProgram, example inputs), got {}"
)


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            "users_network:nothing",
            "users_network:nothing must name a function, got no such name in users_network: "
            "check the spelling",
        ),
        (
            "users_network:number",
            "users_network:number must name a function, got int in users_network: "
            "check the spelling",
        ),
        (
            "users_broken:build",
            "module users_broken must be importable, got ModuleNotFoundError: No module named "
            "'users_not_there': try `python -c 'import users_broken'`",
        ),
        (
            "users_network:broken",
            "users_network:broken() must return a network, got RuntimeError: no weights: "
            "try `python -c 'import users_network; users_network.broken()'`",
        ),
        ("users_network:alone", WRONG_RETURN.format("alone", "Net: return both in a tuple")),
        (
            "users_network:not_a_module",
            WRONG_RETURN.format("not_a_module", "a str as the network: return the module itself"),
        ),
        (
            "users_network:no_tuple",
            "users_network:no_tuple must return its example inputs as a tuple of tensors, "
            "got Tensor: return (network, (tensor, ...))",
        ),
        (
            "users_network:arrays",
            "users_network:arrays must return its example inputs as a tuple of tensors, "
            "got (ndarray): return (network, (tensor, ...))",
        ),
        (
            "users_network:spectrum",
            "operators of users_network:spectrum must be ones that TVM's torch importer knows, "
            "got _fft_r2c.default, view_as_real.default: replace them in the network, or give it "
            "as ONNX",
        ),
        (
            "users_network:halves",
            "inputs of users_network:halves must be dense tensors of a type that numpy has, "
            "got torch.bfloat16: cast inside the network",
        ),
    ],
)
def test_bad_functions(model, text):
    assert error_text(model) == text


@pytest.mark.usefixtures("users")
def test_dynamic_and_data_dependent_functions():
    text = error_text("users_network:dynamic")
    assert "symbolic dimensions x[0] (s" in text
    text = error_text("users_network:branch")
    assert text.startswith("torch.export must be able to export users_network:branch, got ")
    assert text.endswith(": try torch.export.export on it in Python, or give it as ONNX")
