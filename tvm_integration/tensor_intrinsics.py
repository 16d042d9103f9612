"""TVM's tensor intrinsics, in a fraction of the time, and those of GPUs only where one is.

MetaSchedule imports some hundred intrinsics in every process. Stock TVM spends 15 s on them, nearly
all of it in ``inspect.stack()`` reading source files for each; with plain frames in its place it is
3.5 s, of which 3 are for the intrinsics of CUDA, ROCm and Hexagon. A process whose TVM has none of
these devices imports them when a target, a trace or anybody else asks for them.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType
from typing import Any

__all__ = ["import_all_intrinsics", "import_intrinsics"]

_PACKAGE = "tvm.s_tir.tensor_intrin"
_DEVICES = ("cuda", "rocm", "hexagon")
"""Their submodules are called like the kinds of target, and the runtimes, that need them."""
_CPU_KINDS = frozenset({"llvm", "c"})


def import_intrinsics() -> None:
    """Import TVM and the intrinsics that any process needs.

    From then on a tuning context for a target that is no CPU imports the others.
    """
    with _plain_stack():
        import tvm

        if not any(tvm.runtime.enabled(name) for name in _DEVICES):
            sys.meta_path.insert(0, _Deferring())
        importlib.import_module(_PACKAGE)
    from tvm.s_tir.meta_schedule import TuneContext
    from tvm.target import Target

    original = TuneContext.__init__

    @functools.wraps(original)
    def init(self: Any, *arguments: Any, target: Any = None, **options: Any) -> None:
        if target is not None:
            target = target if isinstance(target, Target) else Target(target)
            if target.kind.name not in _CPU_KINDS:
                import_all_intrinsics()
        original(self, *arguments, target=target, **options)

    TuneContext.__init__ = init


def import_all_intrinsics() -> None:
    """Import those of GPUs, too, where that has not been done: takes seconds once."""
    for name in _DEVICES:
        getattr(sys.modules.get(f"{_PACKAGE}.{name}"), "__all__", None)


class _Deferring(MetaPathFinder):
    """Finds the modules of `_DEVICES`, and has them run at the first look into one."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != _PACKAGE or module not in _DEVICES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader)
        return spec


class _DeferringLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the module only when a name of it is asked for that every module does not have."""

        def look_up(name: str) -> Any:
            if name != "__all__" and name.startswith("__"):
                raise AttributeError(name)  # tools look at every module's
            if "__getattr__" in vars(module):
                del module.__getattr__
                with _plain_stack():
                    self._loader.exec_module(module)
            return getattr(module, name)

        module.__getattr__ = look_up  # type: ignore[method-assign]


def _frames_without_source(context: int = 1) -> list[inspect.FrameInfo]:
    """Stand in for `inspect.stack`: the same frames, without reading any source line."""
    del context
    frame: FrameType | None = sys._getframe(1)
    stack = []
    while frame is not None:
        code = frame.f_code
        stack.append(
            inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None)
        )
        frame = frame.f_back
    return stack


@contextmanager
def _plain_stack() -> Iterator[None]:
    original = inspect.stack
    inspect.stack = _frames_without_source
    try:
        yield
    finally:
        inspect.stack = original
