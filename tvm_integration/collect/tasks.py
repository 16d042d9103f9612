"""Networks and drawn kernels -> the tasks of a data set: what several share is there once."""

from collections.abc import Callable, Mapping, Sequence

from costmodels.dataset.kernel_rows import TaskRow
from costmodels.device import Device
from tvm_integration.collect.source import is_drawn, parse_drawn
from tvm_integration.collect.synthetic_kernels import synthetic_kernels
from tvm_integration.compat import IRModule, Target
from tvm_integration.compile.fusion import fuse
from tvm_integration.frontends.load import load_network
from tvm_integration.records.rows import task_row
from tvm_integration.tir.kernel_graph import operator_kinds


def tasks_of_networks(
    models: Sequence[str],
    target: Target,
    device: Device,
    *,
    seed: int = 0,
    on_network: Callable[[str, int], None] | None = None,
) -> list[TaskRow]:
    """Fuse networks, draw kernels, and describe them.

    Parameters
    ----------
    models : sequence of str
        `MODEL` as `costmodels tune` takes it; the name of the network in the data set. Or
        ``drawn:COUNT[,dtype=NAME][,seed=NUMBER]``: kernels of no network.
    target : Target
        What to fuse for. Weights keep their layout, as TVM's own `tune_relax` has it.
    device : Device
        What they will be measured on.
    seed : int
        Of the networks' weights, on which no kernel depends.
    on_network : callable, optional
        Told of each network and the number of its kernels.

    Returns
    -------
    list of TaskRow
        In the order of their first occurrence.
    """
    found: dict[str, TaskRow] = {}
    for model in models:
        kernels: list[tuple[str, IRModule, Mapping[str, int]]]
        if is_drawn(model):
            kernels = [(each.name, each.mod, {}) for each in synthetic_kernels(parse_drawn(model))]
        else:
            fused = fuse(load_network(model, seed=seed).module, target, prepack_weights=False)
            kernels = [(each.name, each.mod, {model: each.weight}) for each in fused.tasks]
        for name, mod, networks in kernels:
            row = task_row(
                mod, target, device, name=name, networks=networks, operators=operator_kinds(mod)
            )
            known = found.get(row.key)
            found[row.key] = row if known is None else known.with_networks(row.networks)
        if on_network is not None:
            on_network(model, len(kernels))
    return list(found.values())
