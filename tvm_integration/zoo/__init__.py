"""Real networks that need no download, as `zoo:NAME[,option=value...]`."""

from tvm_integration.zoo.catalogue import (
    ZooEntry,
    build,
    check_options,
    zoo_entry,
    zoo_families,
    zoo_names,
)

__all__ = ["ZooEntry", "build", "check_options", "zoo_entry", "zoo_families", "zoo_names"]
