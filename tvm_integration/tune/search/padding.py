"""Sketches of matrix products with loops that tile, where those of the kernel do not.

TVM tiles a loop by factors of its extent. 197 rows, as every ViT of 224 pixels has them, have none:
either all rows are in a tile or one is, and the fast inner tiles of some rows by some vectors do
not exist; 197 columns make no vectors at all. TVM can pad such loops (``pad_einsum``): rows and
columns of zeros are computed too, and not kept. Its own design spaces do not. Reductions are left
alone: TVM pads those that zeros change, too (`findings/tvm_pad_einsum_pads_other_reductions.sh`).
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tvm_integration.compat import Schedule, ScheduleError, TensorLoad, meta_schedule
from tvm_integration.tir.blocks import Block, leaf_blocks, tirx

MULTIPLES = (8, 16)
"""To which loops are padded, in a design space each."""
MIN_EXTENT = 8
"""Shorter loops fit into a tile as they are."""
TILE = range(4, 17)
"""Rows of a tile that keeps a core's registers busy."""
WASTED_ROWS, WASTED_COLUMNS = 0.15, 0.35
"""Largest parts that padding may add. Without it columns that make no vectors lose much more."""


def padded_spaces(context: meta_schedule.TuneContext) -> list[Schedule]:
    """Further sketches of a kernel, whose first instructions pad loops that do not tile.

    Parameters
    ----------
    context : TuneContext
        Of the kernel, for a CPU; its rules make the sketches.

    Returns
    -------
    list of Schedule
        None where all loops tile, on another device, and where nothing is a matrix product of
        float numbers.
    """
    if context.target.kind.name != "llvm":
        return []
    found = []
    for paddings in _options(context.mod):
        try:
            padded = _padded(context.mod, paddings)
            spaces = context.space_generator.generate_design_space(padded.mod)
        except ScheduleError:  # pad_einsum takes not every index
            continue
        for space in spaces:
            schedule = _padded(context.mod, paddings)
            space.trace.apply_to_schedule(schedule, remove_postproc=True)
            found.append(schedule)
    return found


def _padded(mod: Any, paddings: Mapping[str, tuple[int, ...]]) -> Schedule:
    schedule = Schedule(mod)
    for name, multiples in paddings.items():
        schedule.pad_einsum(schedule.get_sblock(name), list(multiples))
    return schedule


def _options(mod: Any) -> Iterator[Mapping[str, tuple[int, ...]]]:
    """Name of a block -> to which multiples its loops are padded; each way once."""
    products = [
        (realize.block, Block.of(realize))
        for function in mod.functions.values()
        for realize in leaf_blocks(function.body)
    ]
    seen = []
    for multiple in MULTIPLES:
        paddings = {}
        for block, described in products:
            multiples = _multiples(block, described, multiple)
            if max(multiples, default=1) > 1:
                paddings[str(block.name_hint)] = multiples
        if paddings and paddings not in seen:
            seen.append(paddings)
            yield paddings


def _multiples(block: Any, described: Block, multiple: int) -> tuple[int, ...]:
    """To which multiples the loops of a block are padded, 1 for those that stay; () for none."""
    store = _product(described)
    if store is None:
        return ()
    columns = store.indices[-1]
    found = []
    for variable in block.iter_vars:
        extent = described.spatial.get(variable.var, 0)
        is_columns = columns.same_as(variable.var)
        wasted = WASTED_COLUMNS if is_columns else WASTED_ROWS
        needed = extent > MIN_EXTENT and not _tiles(extent, is_columns)
        fitting = [
            each
            for each in MULTIPLES
            if each <= multiple and math.ceil(extent / each) * each <= (1 + wasted) * extent
        ]
        found.append(fitting[-1] if needed and fitting else 1)
    return tuple(found)


def _tiles(extent: int, is_columns: bool) -> bool:
    if is_columns:
        return extent % MULTIPLES[0] == 0
    return any(extent % rows == 0 for rows in TILE)


def _product(described: Block) -> Any | None:
    """The store of a block that adds up products of two tensors; None of others."""
    if not described.reduction or len(described.spatial) < 2:
        return None
    store = described.stores[-1]
    if "float" not in str(store.buffer.dtype) or not isinstance(store.value, tirx.Add):
        return None
    parts = (store.value.a, store.value.b)
    for part in parts:
        if isinstance(part, tirx.Mul) and all(_is_tensor(side) for side in (part.a, part.b)):
            return store
    return None


def _is_tensor(node: Any) -> bool:
    return isinstance(node.value if isinstance(node, tirx.Cast) else node, TensorLoad)
