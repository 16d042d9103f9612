"""One line for an error raised by foreign code, to stand in an error message of ours."""

__all__ = ["one_line"]

_LONGEST = 300


def one_line(error: BaseException) -> str:
    r"""Return the type and the first line of the text of an exception.

    TVM, torch and protobuf write whole graphs and C++ stacks into theirs.

    Examples
    --------
    >>> one_line(ValueError("bad shape\n  stack: ..."))
    'ValueError: bad shape'
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    name = type(error).__name__
    text = f"{name}: {lines[0].rstrip(':. ')}" if lines else name
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
