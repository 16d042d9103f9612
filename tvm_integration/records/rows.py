"""TVM's objects -> rows of a data set, and back."""

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache

from costmodels.cores import usable_cpus
from costmodels.dataset.kernel_rows import RecordRow, TaskRow
from costmodels.device import Device, detect_host
from costmodels.errors import InputError
from costmodels.json_text import parse_json
from tvm_integration.compat import (
    IRModule,
    Schedule,
    Target,
    Trace,
    estimate_tir_flops,
    import_all_intrinsics,
    load_json,
    meta_schedule,
    save_json,
    tvm,
)
from tvm_integration.identity import target_text, task_key, workload_hash
from tvm_integration.records.record_checks import check_trace
from tvm_integration.tir.blocks import leaf_blocks


def task_row(
    mod: IRModule,
    target: Target,
    device: Device,
    *,
    name: str,
    networks: Mapping[str, int],
    operators: tuple[str, ...],
) -> TaskRow:
    """Describe a task.

    Parameters
    ----------
    mod : IRModule
        One function `main`, before scheduling.
    target : Target
        What it is for.
    device : Device
        What it is measured on.
    name : str
        TVM's name for it.
    networks : mapping
        Network -> how often it calls the kernel.
    operators : tuple of str
        Kinds of its operators.
    """
    arguments = meta_schedule.arg_info.ArgInfo.from_entry_func(mod, remove_preproc=True)
    return TaskRow(
        key=task_key(mod, target),
        name=name,
        workload=save_json(mod),
        target=target_text(target),
        device=device,
        networks=networks,
        operators=operators,
        flop=float(estimate_tir_flops(mod)),
        shapes=tuple(tuple(int(n) for n in argument.shape) for argument in arguments),
        dtypes=tuple(str(argument.dtype) for argument in arguments),
    )


def target_of(task: TaskRow) -> Target:
    """The target of a task.

    Raises
    ------
    InputError
        When TVM cannot read it.
    """
    try:
        return Target(parse_json(task.target))
    except (ValueError, RuntimeError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"the target of task {task.key} must be one of this release of TVM, got: {first}"
        ) from None


def workload_of(task: TaskRow) -> IRModule:
    """The program of a task.

    Raises
    ------
    InputError
        When TVM cannot read it, or it is not what its key says.
    """
    try:
        mod = load_json(task.workload)
        key = f"{workload_hash(mod):016x}"
    except Exception as error:  # of any class: TVM names it, and the text is others'
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the workload of task {task.key} must be readable by this release of TVM, got: {first}"
        ) from None
    if key != task.workload_key:
        raise InputError(f"the workload of task {task.key} must have that hash, got {key}")
    return mod


class TraceApplier:
    """Applies stored traces to a workload.

    To set up a schedule takes a tenth of the time of what is done with it: that is done once, and
    each trace applied to a copy.

    Parameters
    ----------
    mod : IRModule
        The workload.
    checked : bool
        Whether each step is checked to keep what is computed: of traces that come from elsewhere.
    """

    def __init__(self, mod: IRModule, *, checked: bool = False) -> None:
        self.mod = mod
        self._unscheduled = Schedule(mod, enable_check=checked)

    def schedule(self, trace: str) -> Schedule:
        """Apply a trace.

        Raises
        ------
        InputError
            When it no longer applies.
        """
        schedule = self._unscheduled.copy()
        if "ensorize" in trace:
            import_all_intrinsics()  # it names one; of which target it does not say
        try:
            parsed = parse_json(trace)
            check_trace(parsed)
            Trace.apply_json_to_schedule(parsed, schedule)
        except (ValueError, RuntimeError, TypeError, tvm.error.InternalError) as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(f"the trace must apply to its workload, got: {first}") from None
        return schedule


def schedule_of(mod: IRModule, trace: str) -> Schedule:
    """Apply one stored trace to a workload.

    Raises
    ------
    InputError
        When it no longer applies.
    """
    return TraceApplier(mod).schedule(trace)


def with_names_of(record: RecordRow, own: TaskRow, known: TaskRow) -> RecordRow:
    """A record whose trace applies to the workload that a data set keeps of its task.

    Parameters
    ----------
    record : RecordRow
        Of the task.
    own : TaskRow
        The task as the record's trace was made for it.
    known : TaskRow
        The same task as the data set keeps it.
    """
    if own.workload == known.workload:
        return record
    return replace(record, trace=trace_for(record.trace, own.workload, known.workload))


def trace_for(trace: str, own: str, known: str) -> str:
    """A trace that does to one workload what another one does to its equal.

    Equal workloads can differ in the names of their blocks, as these come from the network, and a
    trace asks for blocks by name.

    Parameters
    ----------
    trace : str
        As TVM's JSON.
    own : str
        The workload that it was made for, as TVM's JSON.
    known : str
        The one that it shall apply to.
    """
    names = zip(_block_names(own), _block_names(known), strict=True)
    renamed = dict(names)
    instructions, decisions = parse_json(trace)
    for instruction in instructions:
        if instruction[0] == "GetSBlock":
            instruction[2][0] = _renamed(instruction[2][0], renamed)
    return json.dumps([instructions, decisions], separators=(",", ":"))


def _renamed(name: str, names: Mapping[str, str]) -> str:
    """The new name of a block; those that a schedule makes begin with that of another."""
    for before in sorted(names, key=len, reverse=True):
        if name == before or name.startswith(f"{before}_"):
            return names[before] + name.removeprefix(before)
    return name


@lru_cache(maxsize=256)
def _block_names(workload: str) -> tuple[str, ...]:
    """Names of a workload's blocks in program order."""
    blocks = leaf_blocks(load_json(workload)["main"].body)
    return tuple(str(realize.block.name_hint) for realize in blocks)


@cache
def processor_fingerprint(threads: int) -> str:
    """What kernels run on here: processor, its cores and kernel release, threads and processors.

    Fingerprints without threads are of releases whose kernels ran on one, whatever the target.
    """
    host = detect_host()
    machine = f"{host.name}, {host.cores} cores, {platform.system()} {platform.release()}"
    cpus = ",".join(str(cpu) for cpu in sorted(usable_cpus()))
    return f"{machine}, {threads} threads on processors {cpus}"


def evaluator_text(
    config: meta_schedule.runner.EvaluatorConfig, *, in_network: bool = False
) -> str:
    """How a kernel is measured, for people and for comparison.

    With ``in_network`` it finds its data as `tvm_integration.measure.in_network` leaves them.
    """
    where = ", as in its network" if in_network else ""
    return f"{config.number} x {config.repeat}, {config.min_repeat_ms} ms{where}"
