"""Targets: this host's, the one that a user names, and the device behind one."""

import difflib
import os
import platform
import re
import shlex
from collections.abc import Mapping
from typing import Any

import tvm  # not through compat, which takes seconds more: a wrong target is told early
from tvm.target import Target

from costmodels.checks import require_type
from costmodels.cores import core_count
from costmodels.device import Device, detect_host, read_device
from costmodels.errors import InputError
from costmodels.json_text import parse_json

_KINDS = ("host", "llvm", "cuda", "metal", "opencl", "rocm", "vulkan")


def host_target() -> Target:
    """The target of this host: LLVM for its processor, all cores this process may use."""
    cores = core_count()
    mcpu = tvm.target.codegen.llvm_get_system_cpu()
    return Target({"kind": "llvm", "mcpu": mcpu, "num-cores": cores})


def parse_target(text: str) -> Target:
    """Read a target as a user writes it.

    Parameters
    ----------
    text : str
        ``host``; a JSON object; a kind or tag of TVM; or a kind with options, such as
        ``llvm -mcpu=haswell -num-cores=1``.

    Returns
    -------
    Target
        For ``llvm`` with a processor and a number of cores: this host's where none is given.

    Raises
    ------
    InputError
        When TVM does not know the target, or LLVM not its processor.

    Examples
    --------
    >>> str(parse_target("llvm -mcpu=haswell -num-cores=1").attrs["mcpu"])
    'haswell'
    """
    if text.strip() == "host":
        return host_target()
    try:
        values = _target_dict(text)
        if isinstance(values, dict) and values.get("kind") == "llvm":
            values = _complete_llvm(values)
        return Target(values)
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        kind = text.strip().partition(" ")[0]
        near = difflib.get_close_matches(kind, _KINDS, n=1)
        if near and kind not in _KINDS:
            first = f"did you mean {text.strip().replace(kind, near[0], 1)!r}?"
        raise InputError(
            f"target must be 'host', a kind with options (llvm -mcpu=haswell), a tag or a JSON "
            f"object, got {text!r}: {first}"
        ) from None


def as_target(target: str | Mapping[str, Any] | Target) -> Target:
    """Return the target that a user gives: its text, TVM's mapping, or a target already."""
    require_type("target", target, str | Mapping | Target)
    if isinstance(target, str):
        return parse_target(target)
    return target if isinstance(target, Target) else Target(target)


def _target_dict(text: str) -> dict[str, Any] | str:
    if text.lstrip().startswith("{"):
        parsed: dict[str, Any] = parse_json(text)
        return parsed
    kind, *options = shlex.split(text) or [""]
    if not options and kind != "llvm":
        return kind  # a kind without options, or a tag
    values: dict[str, Any] = {"kind": kind}
    for option in options:
        name, equals, value = option.lstrip("-").partition("=")
        if not option.startswith("-") or not equals:
            raise ValueError(f"option {option!r} must be -name=value")
        if name == "mattr":
            values[name] = value.split(",")
        else:
            values[name] = int(value) if value.isdigit() else value
    return values


def _complete_llvm(values: dict[str, Any]) -> dict[str, Any]:
    """Fill in this host's processor and cores where the user named none."""
    host = host_target().attrs
    values = {"num-cores": int(host["num-cores"]), **values}
    if int(values["num-cores"]) < 1:
        raise InputError(f"num-cores must be at least 1, got {values['num-cores']}")
    place = {"kind": "llvm"}
    if "mtriple" in values:
        place["mtriple"] = str(values["mtriple"])
        _check_architecture(place["mtriple"])
    else:
        values.setdefault("mcpu", str(host["mcpu"]))
    mcpu = values.get("mcpu")
    known = _processors(place)
    if mcpu is not None and mcpu not in known:
        near = difflib.get_close_matches(str(mcpu), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see `llc -mcpu=help`"
        if triple := _triple_of(str(mcpu)):
            hint = f"it is one of another architecture, give -mtriple={triple} with it"
        raise InputError(
            f"mcpu must be a processor that LLVM knows for {place.get('mtriple', 'this host')}, "
            f"got {mcpu!r}: {hint}"
        )
    return values


def _processors(target: dict[str, Any]) -> list[str]:
    """Names that LLVM knows of processors of a target's architecture."""
    return [str(name) for name in tvm.target.codegen.llvm_get_cpu_archlist(Target(target))]


def _triple_of(mcpu: str) -> str | None:
    """The triple of the architecture that has a processor of this name."""
    built_in = [str(each) for each in tvm.target.codegen.llvm_get_targets()]
    for triple in _TRIPLES:
        if _architecture(triple) in built_in and mcpu in _processors(
            {"kind": "llvm", "mtriple": triple}
        ):
            return triple
    return None


def _check_architecture(triple: str) -> None:
    """LLVM ends the process for one that it does not know."""
    name = _architecture(triple)
    known = [str(each) for each in tvm.target.codegen.llvm_get_targets()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "x86_64 and aarch64 are among them"
        raise InputError(
            f"mtriple must begin with an architecture that LLVM knows, got {triple!r}: {hint}"
        )


def _architecture(triple: str) -> str:
    """LLVM's name of the architecture that a triple begins with."""
    name = triple.partition("-")[0].lower()
    for pattern, known in _ARCHITECTURES:
        if re.fullmatch(pattern, name):
            return known
    return name


_TRIPLES = ("x86_64-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf", "riscv64-linux-gnu")
"""One of each architecture that networks are deployed on."""
_ARCHITECTURES = (
    ("amd64|x86_64h", "x86_64"),
    ("i[3-9]86|x86", "i386"),
    ("arm64e?", "aarch64"),
    (r"armv\d.*", "arm"),
    (r"thumbv\d.*", "thumb"),
    ("ppc64le", "powerpc64le"),
    ("ppc64", "powerpc64"),
)


def device_of(target: Target, path: str | os.PathLike[str] | None = None) -> Device:
    """Find out what the kernels of a target run on.

    Parameters
    ----------
    target : Target
        For ``llvm``, its ``num-cores`` and the vectors of its ``mcpu`` and ``mattr`` limit this
        host.
    path : path, optional
        A device file, for a device that is not at hand.

    Returns
    -------
    Device

    Raises
    ------
    InputError
        When the device cannot be detected: a device file is needed.
    """
    is_gpu = "gpu" in [str(key) for key in target.keys]
    if path is not None:
        device = read_device(path)
        if (device.kind == "gpu") != is_gpu:
            raise InputError(
                f"device file {path} must be of a {'gpu' if is_gpu else 'cpu'} for target kind "
                f"{target.kind.name!r}, got a {device.kind}"
            )
        return device
    if target.kind.name == "llvm":
        cores = target.attrs.get("num-cores")
        limit = int(cores) if cores is not None else None
        triple = target.attrs.get("mtriple")
        here = _architecture(platform.machine())
        if triple is not None and _architecture(str(triple)) != here:
            raise InputError(
                f"a device file must be given for a target of another architecture than this "
                f"host's {here}, got {str(triple)!r}: `costmodels device` prints one to start from"
            )
        return detect_host(limit).limited_to(vector_bits=_vector_bits(target))
    raise InputError(
        f"a device file must be given for target kind {target.kind.name!r}, only the host's "
        "processor can be detected: `costmodels device` prints one to start from"
    )


def as_device(device: str | os.PathLike[str] | Device | None, target: Target) -> Device:
    """Return the device that a user gives: a name, a file, or a device; else that of the target.

    Raises
    ------
    InputError
        When it cannot be read or detected, or has fewer cores than the target.
    """
    require_type("device", device, str | os.PathLike | Device | None)
    found = device if isinstance(device, Device) else device_of(target, device)
    check_cores(target, found)
    return found


def check_cores(target: Target, device: Device) -> None:
    """Raise InputError when a target has more cores than the device."""
    cores = target.attrs.get("num-cores")
    if device.kind == "cpu" and cores is not None and int(cores) > device.cores:
        raise InputError(
            f"num-cores must be at most the {device.cores} of {device.name}, got {cores}: "
            "give a device file with as many (`costmodels device` prints one to start from)"
        )


def _vector_bits(target: Target) -> int:
    """Width of the vector registers that a target's code may use, in bits."""
    features = tvm.target.codegen.llvm_get_cpu_features(target)
    return 512 if "avx512f" in features else 256 if "avx" in features else 128
