"""Networks -> the tasks of a data set: a task that several networks share is there once."""

from collections.abc import Callable, Sequence

from costmodels.dataset.rows import TaskRow
from costmodels.device import Device
from tvm_integration.compat import Target
from tvm_integration.dataset_rows import task_row
from tvm_integration.frontend import load_network
from tvm_integration.fusion import fuse
from tvm_integration.kernel_graph import operator_kinds


def tasks_of_networks(
    models: Sequence[str],
    target: Target,
    device: Device,
    *,
    seed: int = 0,
    on_network: Callable[[str, int], None] | None = None,
) -> list[TaskRow]:
    """Fuse networks and describe their kernels.

    Parameters
    ----------
    models : sequence of str
        `MODEL` as `costmodels tune` takes it; the name of the network in the data set.
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
        fused = fuse(load_network(model, seed=seed).module, target, prepack_weights=False)
        for task in fused.tasks:
            row = task_row(
                task.mod,
                target,
                device,
                name=task.name,
                networks={model: task.weight},
                operators=operator_kinds(task.mod),
            )
            known = found.get(row.key)
            found[row.key] = row if known is None else known.with_networks(row.networks)
        if on_network is not None:
            on_network(model, len(fused.tasks))
    return list(found.values())
