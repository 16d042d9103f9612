"""torch module or exported program -> network."""

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodels.errors import InputError
from tvm_integration.foreign_errors import one_line
from tvm_integration.frontends.layer_names import layer_names
from tvm_integration.frontends.network import Network
from tvm_integration.frontends.reference import TorchReference
from tvm_integration.frontends.reference_process import ReferenceProcess
from tvm_integration.frontends.torch_decompositions import decompositions
from tvm_integration.frontends.torch_rewrites import rewrite_program

if TYPE_CHECKING:
    import torch

    from tvm_integration.compat import IRModule

__all__ = ["ExportedCall", "from_program", "from_pt2", "from_torch"]

logger = logging.getLogger(__name__)


def from_torch(
    name: str,
    network: "torch.nn.Module",
    args: tuple["torch.Tensor", ...],
    kwargs: dict[str, "torch.Tensor"],
) -> Network:
    """Export a module for its example inputs and import it.

    Raises
    ------
    InputError
        What torch.export cannot trace, and what `from_program` refuses.
    """
    import torch

    try:
        with torch.no_grad():
            program = torch.export.export(network, args, kwargs)
    except Exception as error:  # it runs the network's own Python, which can raise anything
        raise InputError(
            f"torch.export must be able to export {name}, got {one_line(error)}: "
            "try torch.export.export on it in Python, or give it as ONNX"
        ) from error
    return from_program(name, program, network, (args, kwargs))


def from_program(
    name: str,
    program: "torch.export.ExportedProgram",
    call: Callable[..., object],
    example: tuple[tuple[Any, ...], dict[str, Any]],
) -> Network:
    """Import an exported program.

    Parameters
    ----------
    name : str
        For messages and reports.
    program : torch.export.ExportedProgram
        With fixed shapes.
    call : callable
        The same network in eager torch.
    example : tuple
        Positional arguments and keywords, with tensors at their leaves.

    Raises
    ------
    InputError
        Symbolic dimensions, inputs that are not tensors, a network that changes its buffers,
        operators that TVM's importer does not know.
    """
    import torch
    from torch.utils import _pytree as pytree

    spec = program.call_spec.in_spec
    leaves = pytree.tree_leaves(example)
    if not all(isinstance(x, torch.Tensor) for x in leaves) or len(leaves) != spec.num_leaves:
        raise InputError(
            f"inputs of {name} must be {spec.num_leaves} tensors, got "
            f"{', '.join(type(x).__name__ for x in leaves) or 'none'}: "
            "put everything else into the module"
        )
    _check_fixed_shapes(name, program)
    _check_random(name, program)
    inputs = tuple(_to_numpy(name, x) for x in leaves)

    def run(tensors: "list[torch.Tensor]") -> object:
        args, kwargs = pytree.tree_unflatten(tensors, spec)
        return call(*args, **kwargs)

    reference = ReferenceProcess(TorchReference(run, inputs))
    layers = layer_names(_weights(program))
    return Network(name, _import_program(name, program), inputs, reference, layers)


def _weights(program: "torch.export.ExportedProgram") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name of each weight and its values as whole numbers as wide.

    One that has no values of its own in memory has no name: names are for people, a network is
    estimated without. What export lifted out of the code has an empty name.
    """
    import torch

    widths = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    lifted = set(program.graph_signature.inputs_to_lifted_tensor_constants.values())
    constants = {k: v for k, v in program.constants.items() if isinstance(v, torch.Tensor)}
    for name, weight in {**constants, **program.state_dict}.items():
        try:
            dense = weight.detach().cpu().resolve_conj().resolve_neg().contiguous()
            values = dense.view(widths[dense.element_size()]).numpy()
        except (RuntimeError, TypeError, KeyError, NotImplementedError):
            continue
        yield "" if name in lifted else name, values


def _user_inputs(program: "torch.export.ExportedProgram") -> list[tuple[str, Any]]:
    """Return the name of each input and the value it had when the program was traced."""
    names = set(program.graph_signature.user_inputs)
    nodes = program.graph.find_nodes(op="placeholder")
    return [(node.name, node.meta.get("val")) for node in nodes if node.name in names]


def _check_fixed_shapes(name: str, program: "torch.export.ExportedProgram") -> None:
    symbolic = [
        f"{input_name}[{axis}] ({size})"
        for input_name, value in _user_inputs(program)
        for axis, size in enumerate(getattr(value, "shape", ()))
        if not isinstance(size, int)
    ]
    if symbolic:
        raise InputError(
            f"inputs of {name} must have fixed shapes, got the symbolic dimensions "
            f"{', '.join(symbolic)}: export it again without dynamic_shapes"
        )


def _check_random(name: str, program: "torch.export.ExportedProgram") -> None:
    """Refuse a network that draws numbers: TVM's importer drops some of what draws them."""
    import torch

    drawing = sorted(
        {
            str(node.target).removeprefix("aten.")
            for module in program.graph_module.modules()
            if isinstance(module, torch.fx.GraphModule)
            for node in module.graph.nodes
            if isinstance(node.target, torch._ops.OpOverload) and _draws(node)
        }
    )
    if drawing:
        raise InputError(
            f"operators of {name} must give the same numbers each time, got {', '.join(drawing)}: "
            "export it in eval mode, or make what is drawn an input"
        )


def _draws(node: "torch.fx.Node") -> bool:
    """Whether an operator draws numbers; dropout does so only in training."""
    import torch

    target = node.target
    assert isinstance(target, torch._ops.OpOverload)
    if torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    arguments = target._schema.arguments
    given = {argument.name: value for argument, value in zip(arguments, node.args, strict=False)}
    values = {each.name: each.default_value for each in arguments} | given | dict(node.kwargs)
    is_idle = any(values.get(name, True) is False for name in ("train", "training"))
    return not (is_idle or values.get("dropout_p") == 0 or values.get("dropout") == 0)


def _check_unchanged(name: str, program: "torch.export.ExportedProgram") -> None:
    """Refuse a decomposed network that leaves state behind: TVM's importer drops it silently."""
    signature = program.graph_signature
    buffers = sorted(set(signature.buffers_to_mutate.values()))
    if buffers:
        raise InputError(
            f"{name} must leave its buffers as they are, got a network that changes "
            f"{', '.join(buffers)}: export it in eval mode, or return the new values as outputs"
        )
    inputs = sorted(set(signature.user_inputs_to_mutate.values()))
    if inputs:
        logger.warning(
            "%s changes its inputs %s; once built it leaves them as they are",
            name,
            ", ".join(inputs),
        )


def _import_program(name: str, program: "torch.export.ExportedProgram") -> "IRModule":
    from tvm_integration.compat import from_exported_program
    from tvm_integration.frontends.torch_converters import CONVERTERS

    try:
        decomposed = program.run_decompositions(decompositions())
        _check_unchanged(name, decomposed)
        rewrite_program(decomposed)
        module = from_exported_program(decomposed, CONVERTERS)
        _check_outputs(name, decomposed, module)
        return module
    except InputError:
        raise
    except Exception as error:  # whatever its converters trip over
        text = str(error)
        if "Unsupported function type" in text:
            operators = ", ".join(sorted(_bracketed(text)))
            raise InputError(
                f"operators of {name} must be ones that TVM's torch importer knows, "
                f"got {operators}: replace them in the network, or give it as ONNX"
            ) from error
        raise InputError(
            f"TVM must be able to import {name} from torch, got {one_line(error)}: "
            "simplify the network, or give it as ONNX"
        ) from error


def _check_outputs(name: str, program: "torch.export.ExportedProgram", module: "IRModule") -> None:
    """Compare the imported types and shapes of the outputs with those that torch traced."""
    from tvm_integration.compat import relax, tvm

    wanted = {node.name: node.meta.get("val") for node in program.graph.nodes}
    outputs = [wanted.get(each) for each in program.graph_signature.user_outputs]
    found = module["main"].ret_ty
    types = list(found.fields) if isinstance(found, relax.TupleType) else [found]
    for number, (value, ty) in enumerate(zip(outputs, types, strict=False)):
        if value is None or not isinstance(ty, relax.TensorType):
            continue
        shape = ty.shape.values if isinstance(ty.shape, relax.ShapeExpr) else ()
        is_fixed = all(isinstance(n, tvm.tirx.IntImm) for n in shape)
        got = f"{ty.dtype}{[int(n) for n in shape]}" if is_fixed else str(ty.dtype)
        expected = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        if got != expected and is_fixed:
            raise InputError(
                f"output {number} of {name} must be {expected}, got {got} from TVM's importer: an "
                "operator before it is imported wrongly; give the network as ONNX"
            )


def _bracketed(text: str) -> list[str]:
    return [x.strip(" '\"") for x in text[text.find("[") + 1 : text.rfind("]")].split(",")]


def _to_numpy(name: str, tensor: "torch.Tensor") -> np.ndarray:
    try:
        return np.asarray(tensor.detach().cpu().numpy(), order="C")
    except (TypeError, RuntimeError) as error:
        raise InputError(
            f"inputs of {name} must be dense tensors of a type that numpy has, "
            f"got {tensor.dtype}: cast inside the network"
        ) from error


def from_pt2(path: Path, seed: int) -> Network:
    """Open an archive of `torch.export.save` and import it.

    Parameters
    ----------
    path : Path
        The file.
    seed : int
        For example inputs, when the archive has none: normal numbers, and 0 or 1 for integers,
        which is in range as token, mask and index alike.

    Raises
    ------
    InputError
        A damaged file, and what `from_program` refuses.
    """
    import torch
    from torch.utils import _pytree as pytree

    try:
        logging.disable(logging.CRITICAL)  # torch logs what it then raises, with all of its stack
        program = torch.export.load(path)
    except Exception as error:  # zip, JSON, pickle and torch each report damage their own way
        reason = one_line(error)
        if "warnings above" in reason:
            reason = "one that torch.export.load cannot read"
        raise InputError(
            f"{path} must be an archive of torch.export.save, got {reason}: "
            f"save it again with torch {torch.__version__.partition('+')[0]}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    example = program.example_inputs
    if example is None:
        _check_fixed_shapes(path.stem, program)
        leaves = [_draw(value, seed) for _, value in _user_inputs(program)]
        example = pytree.tree_unflatten(leaves, program.call_spec.in_spec)
    return from_program(path.stem, program, ExportedCall(program), example)


class ExportedCall:
    """An exported program to call, that can be pickled: what torch makes of it cannot.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        What is called.
    """

    def __init__(self, program: "torch.export.ExportedProgram") -> None:
        self._program = program
        self._module: Callable[..., object] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> object:
        """Run it eagerly."""
        if self._module is None:
            self._module = self._program.module()
        return self._module(*args, **kwargs)

    def __getstate__(self) -> bytes:
        import torch

        archive = io.BytesIO()
        torch.export.save(self._program, archive)
        return archive.getvalue()

    def __setstate__(self, state: bytes) -> None:
        import torch

        self._program = torch.export.load(io.BytesIO(state))
        self._module = None


def _draw(value: Any, seed: int) -> Any:
    """Draw a tensor like the traced one; what is no tensor stays, for the caller to refuse."""
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    generator = torch.Generator().manual_seed(seed)
    if value.dtype.is_floating_point:
        return torch.randn(value.shape, generator=generator).to(value.dtype)
    return torch.randint(0, 2, value.shape, generator=generator).to(value.dtype)
