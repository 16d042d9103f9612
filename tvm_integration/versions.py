"""Which releases of TVM's wheels work, and the refusal to run with others."""

from importlib.metadata import PackageNotFoundError, distribution, distributions, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

DISTRIBUTION = "tvm-costmodels"
"""This project on PyPI."""
REQUIRED = {
    "apache-tvm": (
        SpecifierSet(">=0.27,<0.28", prereleases=True),
        "the modules of MetaSchedule move between releases and only 0.27 has been tested",
    ),
    "apache-tvm-ffi": (
        SpecifierSet(">=0.1.14,<0.1.15", prereleases=True),
        "with 0.1.15 TVM 0.27 crashes with a segmentation fault in tvm.ir.save_json, and so in "
        "every database and tuning context of MetaSchedule",
    ),
}
"""Distribution name -> (releases that work, why others do not)."""


def check_versions() -> None:
    """Refuse to go on when TVM's wheels are missing or of a release known to crash.

    Reads the metadata of the installed distributions; imports nothing of TVM.

    Raises
    ------
    ImportError
        With the reason and the command that repairs the installation.
    """
    _check_alone()
    for name, (allowed, reason) in REQUIRED.items():
        repair = f"install it with `pip install '{name}{allowed}'`"
        try:
            found = version(name)
        except PackageNotFoundError:
            raise ImportError(f"{name} must be installed ({allowed}): {repair}") from None
        if not allowed.contains(found):
            others = _brought_by(name, found)
            cause = f", which {', '.join(others)} asks for" if others else ""
            raise ImportError(f"{name} must be {allowed}, got {found}{cause}: {reason}; {repair}")


FOREIGN = "costmodels"
"""A distribution on PyPI that installs a package of the name of one of ours."""


def _check_alone() -> None:
    """Refuse to go on beside another project's `costmodels`: each overwrites files of the other."""
    try:
        found = distribution(FOREIGN)
    except PackageNotFoundError:
        return
    raise ImportError(
        f"the package `costmodels` must be that of {DISTRIBUTION}, got the distribution {FOREIGN} "
        f"{found.version} beside it, which is another project's or an earlier release of this one: "
        f"`pip uninstall {FOREIGN}`, then `pip install --force-reinstall --no-deps {DISTRIBUTION}`"
    )


def _brought_by(name: str, release: str) -> list[str]:
    """Other packages that want this release of one, and not what works here."""
    allowed, _ = REQUIRED[name]
    found = []
    for each in distributions():
        for text in each.requires or ():
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue
            if wanted.name != name or not wanted.specifier.contains(release, prereleases=True):
                continue
            lowest = [part.version for part in wanted.specifier if part.operator in (">=", "==")]
            if lowest and not any(allowed.contains(one, prereleases=True) for one in lowest):
                found.append(f"{each.metadata['Name']} {each.version}")
    return sorted(set(found))
