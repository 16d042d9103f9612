"""How boosted trees are grown: on a data set at once, and by updates while tuning."""

from dataclasses import dataclass, field

from costmodels.errors import InputError
from costmodels.kernel_models.gbt.trees import TreeParameters


@dataclass(frozen=True, slots=True)
class Growth:
    """Shape and number of trees that are grown at once.

    Parameters
    ----------
    trees : TreeParameters
        Their shape.
    most_rounds : int
        Trees at most; as many as rank the held-out kernels best.
    seconds_rounds, seconds_eta : int, float
        Trees and learning rate of the seconds head, which only tasks never measured need.
    """

    trees: TreeParameters = field(default_factory=TreeParameters)
    most_rounds: int = 200
    seconds_rounds: int = 15
    seconds_eta: float = 0.3


OFFLINE = Growth(TreeParameters(max_depth=8, eta=0.1), 400, 150, 0.1)
"""Of `GradientBoostedTrees.fit`: a data set has kernels for deep trees, and time to grow them."""


@dataclass(frozen=True, slots=True)
class TreesConfig:
    """How the trees are grown.

    Parameters
    ----------
    objective : str
        ``"squared_error"`` or ``"pairwise"``.
    offline, online : Growth
        Of a fit to a data set, and of updates.
    memory : int
        Kernels kept to learn from; bounds the time of an update.
    first_rounds : int
        Trees grown when nothing can be held out yet, and by any refit at least.
    rounds_per_update : int
        Trees added by an update that is not a refit.
    most_trees : int
        Cap on the trees that updates add to those of `GradientBoostedTrees.fit`.
    refit_growth : float
        Refit when this many times as many kernels are known as at the last refit.
    patience : int
        Trees without improvement on the held-out kernels after which a refit stops.
    """

    objective: str = "squared_error"
    offline: Growth = OFFLINE
    online: Growth = field(default_factory=Growth)
    memory: int = 4096
    first_rounds: int = 40
    rounds_per_update: int = 7
    most_trees: int = 260
    refit_growth: float = 1.5
    patience: int = 10

    def __post_init__(self) -> None:
        if self.objective not in ("squared_error", "pairwise"):
            raise InputError(
                f"objective must be 'squared_error' or 'pairwise', got {self.objective!r}"
            )
