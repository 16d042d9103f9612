"""MODEL -> network: its forms, the zoo, and functions of the user."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from network_checks import assert_equals_reference, error_text

from costmodels.errors import InputError
from tvm_integration.frontends.load import check_model_name, load_network
from tvm_integration.frontends.model_spec import ModelName, check_library_name

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
            "resnet50, vit_tiny, or of a family with a number (dense, encoder, fire, inception, "
            "mixer, nasbench201, once_for_all, plain, residual, shuffle, unet, "
            "vision_transformer), got 'resnet19': did you mean zoo:resnet18?",
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
        from tvm_integration.frontends.load import load_network
        try:
            load_network("zoo:nothing")
        except ValueError:
            print([m for m in ("tvm", "torch", "onnx") if m in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "message", "unneeded"),
    [
        (["zoo:mlp", "--model", "pretraned:best"], "did you mean 'pretrained:best'?", "tvm"),
        (["zoo:mlp", "--device", "raspbery-pi-4"], "did you mean 'raspberry-pi-4'?", "tvm"),
        (["zo:mlp"], "did you mean zoo:mlp?", "tvm"),
        (["zoo:mlp", "--target", "llvm -mcpu=znver44"], "did you mean 'znver", "networkx"),
    ],
)
def test_a_wrong_option_is_told_before_anything_slow_is_imported(arguments, message, unneeded):
    code = f"""
        import sys
        from tvm_integration.cli.app import main
        sys.argv = ["costmodels", "estimate", *{arguments}]
        try:
            main()
        except SystemExit as error:
            print(error.code, "{unneeded}" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert message in done.stderr
    assert done.stdout == "2 False\n"


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
            "users_network.py:build",
            "module users_network.py must be importable, got ModuleNotFoundError: No module named "
            "'users_network.py'; 'users_network' is not a package: give users_network:build, the "
            "name of a module and no file",
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


def test_a_library_that_python_would_import_for_the_module_is_refused(workplace):
    name = ModelName("function", "users_net:make", {})
    with pytest.raises(InputError, match=r"got users_net\.so for users_net:make: Python would"):
        check_library_name(name, Path("users_net.so").absolute())
    check_library_name(name, Path("other.so").absolute())
    check_library_name(name, workplace / "elsewhere" / "users_net.so")
    (workplace / "users_net.so").write_bytes(b"no library")
    (workplace / "users_net.py").write_text("def make():\n    raise ValueError\n")
    with pytest.raises(InputError, match=r"users_net\.so in this folder hides it"):
        load_network("users_net:make")
