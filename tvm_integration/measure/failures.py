"""How a failure travels through TVM, whose results have room for one string."""

from costmodels.kernel import Failure

__all__ = ["failure_from_message", "failure_message"]

_KINDS = ("build", "crash", "run", "timeout")


def failure_message(source: str, failure: Failure) -> str:
    """Write a failure as an ``error_msg`` of TVM.

    Parameters
    ----------
    source : str
        The class that reports it.
    failure : Failure
        What happened.

    Returns
    -------
    str
        ``source: kind: reason``.
    """
    message = f"{source}: {failure.kind}: {failure.reason}"
    # A reason may hold what UTF-8 cannot (a lone surrogate of a file name), and TVM insists on it.
    return message.encode(errors="backslashreplace").decode()


def failure_from_message(message: str) -> Failure:
    """Read an ``error_msg``, ours or of another builder or runner.

    Parameters
    ----------
    message : str
        Of a BuilderResult or RunnerResult.

    Returns
    -------
    Failure
        Its kind is ``"unknown"`` when the message is not ours.

    Examples
    --------
    >>> failure_from_message("WarmBuilder: timeout: killed after 30 seconds")
    Failure(kind='timeout', reason='killed after 30 seconds')
    >>> failure_from_message("LocalRunner: An exception occurred")
    Failure(kind='unknown', reason='LocalRunner: An exception occurred')
    """
    source, _, rest = message.partition(": ")
    kind, separator, reason = rest.partition(": ")
    if source.startswith("Warm") and separator and kind in _KINDS:
        return Failure(kind, reason)
    return Failure("unknown", message)
