"""Arguments that several commands share."""

from typing import Annotated

import typer

__all__ = ["NetworkName", "TargetText"]

NetworkName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="zoo:NAME, FILE.onnx[,dimension=size...], FILE.pt2, hf:ConfigName[,key=value...] or "
        "module:function.",
    ),
]
TargetText = Annotated[
    str, typer.Option(help="host, or for example 'llvm -mcpu=haswell -num-cores=1'.")
]
