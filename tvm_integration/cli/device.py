"""The command line: ``costmodels device``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from costmodels.errors import InputError
from costmodels.json_text import json_text


def device(
    file: Annotated[Path | None, typer.Option(help="Read this device file instead.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Limit this host to what a target may use.")
    ] = None,
    list_ready: Annotated[
        bool, typer.Option("--list", help="Name the devices whose files travel with this package.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print what cost models know of a device, as a device file.

    Lines that begin with # say what TVM's threads do on this host, and where its bandwidth is known
    from.
    """
    from costmodels.device import detect_host, read_device, ready_devices

    given = {"--list": list_ready, "--file": file is not None, "--target": target is not None}
    if sum(given.values()) > 1:
        names = " and ".join(name for name, is_given in given.items() if is_given)
        raise InputError(f"one of --list, --file and --target must be given at most, got {names}")
    if list_ready:
        devices = {name: read_device(path) for name, path in ready_devices().items()}
        if as_json:
            sys.stdout.write(json_text({name: each.as_dict() for name, each in devices.items()}))
            return
        width = max(map(len, devices))
        for name, each in devices.items():
            unit = "multiprocessors" if each.kind == "gpu" else "cores"
            sys.stdout.write(f"{name:{width}}  {each.name}, {each.cores} {unit}\n")
        return
    if file is not None:
        found = read_device(file)
    elif target is not None:
        from tvm_integration.targets import check_cores, device_of, parse_target

        parsed = parse_target(target)
        found = device_of(parsed)
        check_cores(parsed, found)
    else:
        found = detect_host()
    if as_json:
        sys.stdout.write(json_text(found.as_dict()))
        return
    notes = [] if file is not None else _host_notes(found.cores)
    sys.stdout.write("".join(f"# {note}\n" for note in notes) + found.to_toml())


def _host_notes(cores: int) -> list[str]:
    """What TVM's threads do on this host, and where its bandwidth is known from."""
    from costmodels.cores import core_count, cpu_quota, usable_cpus
    from costmodels.device import host_bandwidth
    from tvm_integration.threads import stock_thread_count, thread_environment

    quota = cpu_quota()
    granted = "" if quota is None else f"; its control group grants the time of {quota:.3g} cores"
    environment = " ".join(f"{k}={v}" for k, v in thread_environment(cores).items())
    alone = stock_thread_count()
    bandwidth = host_bandwidth()
    text = f"bandwidth: {bandwidth.source}"
    if bandwidth.readings:
        text += f", {bandwidth.readings} undisturbed readings within {bandwidth.spread:.0%}"
    return [
        f"this process can keep {core_count()} of {len(usable_cpus())} processors busy{granted}",
        f"TVM left alone takes {alone} thread{'s' if alone > 1 else ''} here; for {cores}, as this "
        f"package measures: {environment}",
        text,
    ]
