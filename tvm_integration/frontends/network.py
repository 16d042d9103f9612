"""A network as the front ends hand it on: imported, with fixed shapes, its weights inside."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from tvm_integration.frontends.layer_names import LayerNames
from tvm_integration.frontends.reference_process import ReferenceProcess

if TYPE_CHECKING:
    from tvm_integration.compat import IRModule

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """A network ready to be fused.

    Attributes
    ----------
    name : str
        A short name: the zoo's, the file's stem, the configuration class or the function.
    module : IRModule
        A Relax module whose function `main` takes the inputs and nothing else: the weights are
        constants, so a library built from it stands alone.
    inputs : tuple of np.ndarray
        Example inputs, in the order of the parameters of `main`.
    reference : ReferenceProcess
        The network in its own framework, in a process of its own.
    layers : mapping
        Digest of a weight's content -> name of its layer: see
        `tvm_integration.frontends.layer_names`.
    """

    name: str
    module: "IRModule"
    inputs: tuple[np.ndarray, ...]
    reference: ReferenceProcess
    layers: LayerNames = field(default_factory=dict)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the parameters of `main`."""
        return tuple(str(x.name) for x in self.module["main"].params)
