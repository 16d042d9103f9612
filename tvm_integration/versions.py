"""Which releases of TVM's wheels work, and the refusal to run with others."""

from importlib.metadata import PackageNotFoundError, version

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
            raise ImportError(f"{name} must be {allowed}, got {found}: {reason}; {repair}")
