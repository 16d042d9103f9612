"""Feature schemas: which column means what, in which unit, and under which version.

`PER_STORE` describes one row per written buffer of a scheduled program ("stage"): the rows that
TVM's PerStoreFeature gives (Ansor's features, Zheng et al., OSDI 2020), and the stage's loops.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from costmodels.errors import SchemaError

LOG2 = "log2(|x| + 1)"
"""Scale of nearly all columns: TVM stores the logarithm of a count or a size."""
FLAG = "0 or 1"


@dataclass(frozen=True, slots=True)
class Column:
    """One feature.

    Parameters
    ----------
    name : str
        Unique within its schema, ``group.quantity``.
    unit : str
        Of the quantity before scaling, for example ``byte``.
    scale : str
        How the quantity is stored: `LOG2` or `FLAG`.
    """

    name: str
    unit: str
    scale: str = LOG2


@dataclass(frozen=True)
class FeatureSchema:
    """An ordered list of columns with a version.

    Parameters
    ----------
    name : str
        What a row stands for.
    version : int
        Raised whenever a column is added, removed, moved or changes its meaning.
    columns : tuple of Column
        In the order of the columns of a row.
    """

    name: str
    version: int
    columns: tuple[Column, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def index(self) -> dict[str, int]:
        """Column name -> position."""
        return {name: position for position, name in enumerate(self.names)}

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change whenever the schema does."""
        text = repr((self.name, self.version, self.columns))
        return blake2b(text.encode(), digest_size=8).hexdigest()

    def __str__(self) -> str:
        return f"{self.name} v{self.version} ({len(self.columns)} columns, {self.fingerprint})"

    def require(self, other: "FeatureSchema", *, owner: str) -> None:
        """Check that features have this schema.

        Parameters
        ----------
        other : FeatureSchema
            The schema that the features have.
        owner : str
            Who needs this schema, for the message.

        Raises
        ------
        SchemaError
            When the two differ in any column.
        """
        if self.fingerprint != other.fingerprint:
            raise SchemaError(
                f"{owner} must be given features of schema {self}, got {other}: "
                "extract the features again, or train the model again with this release"
            )


_OPERATIONS = tuple(
    f"{kind}_{op}"
    for kind in ("float", "int")
    for op in ("mad", "add_sub", "mul", "div_mod", "cmp", "math_func", "other_func")
) + ("bool_op", "select_op")

_POSITIONS = tuple(
    f"pos_{name}"
    for name in (
        "none",
        "inner_spatial",
        "middle_spatial",
        "outer_spatial",
        "inner_reduce",
        "middle_reduce",
        "outer_reduce",
        "mixed",
    )
)

_ACCESSES = (
    ("is_read", "", FLAG),
    ("is_write", "", FLAG),
    ("is_read_write", "", FLAG),
    ("bytes", "byte", LOG2),
    ("unique_bytes", "byte", LOG2),
    ("lines", "cache line", LOG2),
    ("unique_lines", "cache line", LOG2),
    ("reuse_by_loop", "", FLAG),
    ("reuse_serial", "", FLAG),
    ("reuse_none", "", FLAG),
    ("reuse_distance_iterations", "iteration", LOG2),
    ("reuse_distance_bytes", "byte", LOG2),
    ("reuse_count", "time", LOG2),
    ("bytes_per_reuse", "byte", LOG2),
    ("unique_bytes_per_reuse", "byte", LOG2),
    ("lines_per_reuse", "cache line", LOG2),
    ("unique_lines_per_reuse", "cache line", LOG2),
    ("stride", "element", LOG2),
)

BUFFERS_PER_STORE = 5
"""Buffers that a row describes, those with most touched cache lines first."""
INTENSITY_SAMPLES = 10
"""Points at which TVM samples the arithmetic intensity along the loop nest."""


def _tvm_columns() -> tuple[Column, ...]:
    columns = [Column(f"compute.{name}", "operation") for name in _OPERATIONS]
    for kind in ("vectorize", "unroll", "parallel"):
        columns.append(Column(f"{kind}.loops", "loop"))
        columns.append(Column(f"{kind}.extent_product", "iteration"))
        columns.append(Column(f"{kind}.innermost_extent", "iteration"))
        columns += [Column(f"{kind}.{name}", "", FLAG) for name in _POSITIONS]
    columns.append(Column("gpu.is_gpu", "", FLAG))
    for name in ("block_x", "block_y", "block_z", "thread_x", "thread_y", "thread_z", "vthread"):
        columns.append(Column(f"gpu.{name}", "iteration"))
    for buffer in range(BUFFERS_PER_STORE):
        columns += [
            Column(f"buffer{buffer}.{name}", unit, scale) for name, unit, scale in _ACCESSES
        ]
    columns += [
        Column(f"intensity.float_{sample}", "operation/byte") for sample in range(INTENSITY_SAMPLES)
    ]
    columns += [
        Column("allocation.bytes", "byte"),
        Column("allocation.elements_total", "element"),
        Column("allocation.times", "time"),
        Column("allocation.iterations_inside", "iteration"),
        Column("loops.extent_product", "iteration"),
        Column("loops.depth", "loop"),
        Column("loops.auto_unroll_max_step", "iteration"),
    ]
    return tuple(columns)


TVM_PER_STORE_COLUMNS = _tvm_columns()
"""The 164 columns of TVM's PerStoreFeature in TVM's order, without its workload flags."""

NEVER_VARYING = frozenset(
    {"compute.float_mad", "compute.int_mad"}
    | {f"{kind}.{name}" for kind in ("vectorize", "unroll", "parallel") for name in _POSITIONS}
)
"""Columns that say nothing: TVM never counts multiply-adds, and it only ever sets the annotation
positions "none" and "mixed", which repeat whether ``<kind>.loops`` is zero."""

DERIVED_COLUMNS = (
    Column("total.operations", "operation"),
    Column("total.bytes", "byte"),
    Column("total.unique_bytes", "byte"),
    Column("total.lines", "cache line"),
    Column("total.unique_lines", "cache line"),
    Column("total.intensity", "operation/byte"),
)
"""Sums over all operation types and over the described buffers. ``total.intensity`` counts
integer operations as well, so that quantised kernels have one: TVM's curve is 0 for them."""

CACHE_BYTES = tuple(2**power for power in (8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 22, 24))
"""Sizes of caches for which it is told how much a stage fetches: from the registers up."""
CONFLICT_PERIODS = (2**12, 2**16)
"""Bytes after which addresses share a set of the first-level and of the second-level cache."""
LOOPS_KEPT = 6
"""Loops of a stage that are described one by one, the innermost first."""
ACCESSES_KEPT = 4
"""Accesses of a stage that are looked at: its store, then its loads."""
LOOP_KINDS = ("parallel", "vectorized", "unrolled", "thread")


def _loop_columns() -> tuple[Column, ...]:
    columns = [
        Column(f"traffic.{what}_{size}", "cache line")
        for size in CACHE_BYTES
        for what in ("stored", "loaded")
    ]
    columns.append(Column("traffic.touched", "cache line"))
    columns += [Column(f"conflict.sets_{period}", "set") for period in CONFLICT_PERIODS]
    for loop in range(LOOPS_KEPT):
        columns.append(Column(f"loop{loop}.extent", "iteration"))
        columns.append(Column(f"loop{loop}.is_reduction", "", FLAG))
        columns += [Column(f"loop{loop}.is_{kind}", "", FLAG) for kind in LOOP_KINDS]
        columns += [
            Column(f"loop{loop}.stride_{access}", "element") for access in range(ACCESSES_KEPT)
        ]
    columns += [Column(f"sum.{name}", "iteration") for name in ("length", "apart", "lanes")]
    return tuple(columns)


LOOP_COLUMNS = _loop_columns()
"""What follows from the loops of a stage; see `costmodels.features.loops`. ``traffic.loaded_N`` are
the lines that loads fetch into a cache of N bytes, ``conflict.sets_N`` the sets that lines N bytes
apart crowd, all there are where none do; ``sum.length`` the additions in a row to one sum,
``sum.apart`` the sums that take turns."""

PER_STORE = FeatureSchema(
    name="per-store",
    version=4,
    columns=tuple(c for c in TVM_PER_STORE_COLUMNS if c.name not in NEVER_VARYING)
    + DERIVED_COLUMNS
    + LOOP_COLUMNS,
)
"""Schema of the rows of a scheduled program, one per written buffer."""

DEVICE = FeatureSchema(
    name="device",
    version=1,
    columns=(
        Column("device.is_gpu", "", FLAG),
        Column("device.cores", "core"),
        Column("device.vector_bits", "bit"),
        Column("device.l1_bytes", "byte"),
        Column("device.l2_bytes", "byte"),
        Column("device.l3_bytes", "byte"),
        Column("device.clock_hz", "Hz"),
        Column("device.peak_flop_per_s", "flop/s"),
        Column("device.bandwidth_byte_per_s", "byte/s"),
    ),
)
"""Schema of the features of a target device; see `costmodels.device.Device`."""

OPERATOR_LISTS = (
    ("shape", 6, "element"),
    ("spatial", 6, "iteration"),
    ("reduction", 5, "iteration"),
    ("window", 3, "element"),
    ("stride", 3, "element"),
    ("dilation", 3, "element"),
    ("padding_before", 3, "element"),
    ("padding_after", 3, "element"),
)
"""Lists of an operator: name, entries kept, unit. Each is followed by its sum and its product,
which also tell of the entries left out."""
OPERATIONS = (
    "add",
    "sub",
    "mul",
    "div",
    "mod",
    "max",
    "min",
    "compare",
    "logic",
    "select",
    "math",
)
"""Kinds of operations of one iteration; "math" is any call."""


def _operator_columns() -> tuple[Column, ...]:
    columns = [
        Column("dtype.bits", "bit"),
        Column("dtype.is_float", "", FLAG),
        Column("dtype.is_signed", "", FLAG),
        Column("output.bytes", "byte"),
        Column("iterations", "iteration"),
    ]
    columns += [Column(f"operations.{kind}", "operation/iteration") for kind in OPERATIONS]
    for name, kept, unit in OPERATOR_LISTS:
        columns.append(Column(f"{name}.length", "entry"))
        columns += [Column(f"{name}.{entry}", unit) for entry in range(kept)]
        columns += [Column(f"{name}.sum", unit), Column(f"{name}.product", unit)]
    return tuple(columns)


OPERATOR = FeatureSchema(name="operator", version=1, columns=_operator_columns())
"""Schema of the nodes of a kernel's graph, beside their opcode; see
`costmodels.features.operator_features`."""
