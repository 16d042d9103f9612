"""Which releases of TVM's wheels work, and the refusal to run with others."""

from importlib.metadata import PackageNotFoundError, distributions, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet

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


def _brought_by(name: str, release: str) -> list[str]:
    """Other packages that want this release of one, and not what works here."""
    allowed, _ = REQUIRED[name]
    found = []
    for distribution in distributions():
        for text in distribution.requires or ():
            try:
                wanted = Requirement(text)
            except InvalidRequirement:
                continue
            if wanted.name != name or not wanted.specifier.contains(release, prereleases=True):
                continue
            lowest = [each.version for each in wanted.specifier if each.operator in (">=", "==")]
            if lowest and not any(allowed.contains(each, prereleases=True) for each in lowest):
                found.append(f"{distribution.metadata['Name']} {distribution.version}")
    return sorted(set(found))
