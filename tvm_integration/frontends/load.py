"""`MODEL` -> a network: a Relax module with its weights, example inputs, and a reference.

TVM and torch are imported when a network is loaded, after the cheap checks of `model_spec`.
"""

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from costmodels.errors import InputError
from tvm_integration import zoo
from tvm_integration.foreign_errors import one_line
from tvm_integration.frontends.model_spec import ModelName, add_working_directory, check_model_name
from tvm_integration.frontends.network import Network

__all__ = ["Network", "check_model_name", "load_network", "require_network"]


def require_network(network: object, kind: type) -> None:
    """Raise InputError unless a network is named, or of the kind that a function takes.

    Parameters
    ----------
    network : object
        What a user gives.
    kind : type
        What the function takes beside names.
    """
    if not isinstance(network, str | kind):
        raise InputError(
            "network must be named as on the command line (zoo:NAME, FILE.onnx, FILE.pt2, "
            f"hf:ConfigName, or module:function of yours that returns a torch module and its "
            f"example inputs), got one of {type(network).__name__}"
        )


def load_network(model: str | ModelName, *, seed: int = 0) -> Network:
    """Load the network that `MODEL` names.

    A `.pt2` file and a `module:function` can run code of their authors: load those you trust.

    Parameters
    ----------
    model : str or ModelName
        See `check_model_name`, or what it returned.
    seed : int
        For random weights (`zoo:`, `hf:`) and for example inputs where the source has none.

    Returns
    -------
    Network
        With fixed shapes.

    Raises
    ------
    InputError
        Bad input of any kind; the message is one line and names the way out.
    """
    name = check_model_name(model) if isinstance(model, str) else model
    if name.kind == "zoo":
        from tvm_integration.frontends.torch_program import from_torch

        with _quiet():
            with _fitting(name):
                network, inputs = zoo.build(name.name, seed=seed, **name.integer_options())
            return from_torch(name.name, network, inputs, {})
    if name.kind == "hf":
        from tvm_integration.frontends.hf import build_hf
        from tvm_integration.frontends.torch_program import from_torch

        with _quiet():
            with _fitting(name):
                network, keywords = build_hf(name.name, name.options, seed=seed)
            return from_torch(name.name, network, (), keywords)
    if name.kind == "pt2":
        from tvm_integration.frontends.torch_program import from_pt2

        with _quiet():
            return from_pt2(Path(name.name), seed)
    if name.kind == "onnx":
        from tvm_integration.frontends.onnx_file import import_onnx

        with _quiet():
            return import_onnx(name, seed)
    return _from_function(name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the importers' prints off stdout, which may carry a JSON document, and their warnings.

    The warnings are about the importers' own code, or are followed by an error that says more.
    """
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _fitting(name: ModelName) -> Iterator[None]:
    """Name the network whose weights or inputs torch cannot allocate."""
    try:
        yield
    except (RuntimeError, MemoryError, OverflowError, TypeError) as error:
        raise InputError(
            f"torch must be able to make {name.kind}:{name.name}, got {one_line(error)}: "
            "take smaller sizes"
        ) from error


def _from_function(name: ModelName) -> Network:
    import torch

    from tvm_integration.frontends.torch_program import ExportedCall, from_program, from_torch

    network, inputs = _call_function(name)
    is_program = isinstance(network, torch.export.ExportedProgram)
    if not (is_program or isinstance(network, torch.nn.Module)):
        raise InputError(
            f"{name.name} must return (torch.nn.Module or ExportedProgram, example inputs), "
            f"got a {type(network).__name__} as the network: return the module itself"
        )
    if not (isinstance(inputs, tuple) and all(isinstance(x, torch.Tensor) for x in inputs)):
        kinds = ", ".join(type(x).__name__ for x in inputs) if isinstance(inputs, tuple) else ""
        raise InputError(
            f"{name.name} must return its example inputs as a tuple of tensors, "
            f"got {f'({kinds})' if kinds else type(inputs).__name__}: "
            "return (network, (tensor, ...))"
        )
    with _quiet():
        if is_program:
            return from_program(name.name, network, ExportedCall(network), (inputs, {}))
        return from_torch(name.name, network.eval(), inputs, {})


def _call_function(name: ModelName) -> tuple[Any, Any]:
    """Import the module, call the function and take its result apart."""
    add_working_directory()
    module_name, _, function_name = name.name.partition(":")
    with redirect_stdout(sys.stderr):  # the user's own prints are for the user to see
        try:
            function = getattr(import_module(module_name), function_name, None)
        except (Exception, SystemExit) as error:  # the user's module can raise anything
            hidden_by = Path(f"{module_name}.so")
            if hidden_by.exists():
                hint = f"{hidden_by} in this folder hides it"
            elif module_name.endswith(".py"):
                module = module_name.removesuffix(".py").replace("/", ".")
                hint = f"give {module}:{function_name}, the name of a module and no file"
            else:
                hint = f"try `python -c 'import {module_name}'`"
            raise InputError(
                f"module {module_name} must be importable, got {one_line(error)}: {hint}"
            ) from error
        if not callable(function):
            raise InputError(
                f"{name.name} must name a function, got "
                f"{'no such name' if function is None else type(function).__name__} "
                f"in {module_name}: check the spelling"
            )
        try:
            result = function()
        except (Exception, SystemExit) as error:  # and so can the user's function
            raise InputError(
                f"{name.name}() must return a network, got {one_line(error)}: "
                f"try `python -c 'import {module_name}; {module_name}.{function_name}()'`"
            ) from error
    if not (isinstance(result, tuple) and len(result) == 2):
        raise InputError(
            f"{name.name} must return (torch.nn.Module or ExportedProgram, example inputs), "
            f"got {type(result).__name__}: return both in a tuple"
        )
    return result
