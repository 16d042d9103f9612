"""Messages between the user's process and a worker: a length-prefixed body over a stream socket.

Requests are pickles, which only the user's process writes. Answers are JSON: a worker has run
machine code that nobody has checked, and a pickle read from it would run code in the user's
process.
"""

import json
import socket
import struct
from typing import Any

__all__ = [
    "ANSWER_LIMIT_BYTES",
    "GarbageError",
    "MessageBuffer",
    "encode_answer",
    "frame",
    "receive_message",
]

# Magic, number of the job, bytes in the body.
_HEADER = struct.Struct("!4sIQ")
_MAGIC = b"cmW1"
# An answer is a path, some times or a traceback; anything longer was not written by our code.
ANSWER_LIMIT_BYTES = 16 << 20


class GarbageError(Exception):
    """The bytes on a channel are not a message of ours."""


def frame(number: int, body: bytes) -> bytes:
    """Put the header before a message.

    Parameters
    ----------
    number : int
        Number of the job it belongs to.
    body : bytes
        The message.

    Returns
    -------
    bytes
        What goes over the socket.
    """
    return _HEADER.pack(_MAGIC, number, len(body)) + body


def encode_answer(number: int, answer: dict[str, Any]) -> bytes:
    """Frame an answer as JSON.

    Parameters
    ----------
    number : int
        Number of the job it answers.
    answer : dict
        Anything JSON can hold.

    Returns
    -------
    bytes
        What goes over the socket.

    Raises
    ------
    TypeError, ValueError
        When JSON cannot hold the answer.
    """
    return frame(number, json.dumps(answer).encode())


def receive_message(channel: socket.socket) -> tuple[int, bytes] | None:
    """Wait for the next message on a blocking socket.

    Returns
    -------
    tuple of int and bytes, or None
        Number of the job and the body; None when the other side has closed.
    """
    header = _receive_exactly(channel, _HEADER.size)
    if header is None:
        return None
    magic, number, size = _HEADER.unpack(header)
    if magic != _MAGIC:
        raise GarbageError(f"a request starts with {magic!r}")
    body = _receive_exactly(channel, size)
    return None if body is None else (number, body)


def _receive_exactly(channel: socket.socket, size: int) -> bytes | None:
    received = bytearray(size)
    view = memoryview(received)
    done = 0
    while done < size:
        count = channel.recv_into(view[done:])
        if count == 0:
            return None
        done += count
    return bytes(received)


class MessageBuffer:
    """Puts answers together from the pieces in which they arrive."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def feed(self, piece: bytes) -> None:
        """Add bytes that arrived."""
        self._bytes += piece

    def take(self) -> tuple[int, dict[str, Any]] | None:
        """Take out the next answer.

        Returns
        -------
        tuple of int and dict, or None
            Number of the job and the answer; None while it is not complete.

        Raises
        ------
        GarbageError
            When the bytes are not an answer of ours.
        """
        start = bytes(self._bytes[: len(_MAGIC)])
        if not _MAGIC.startswith(start):
            raise GarbageError(f"bytes {bytes(self._bytes[:24])!r} instead of an answer")
        if len(self._bytes) < _HEADER.size:
            return None
        _, number, size = _HEADER.unpack_from(self._bytes)
        if size > ANSWER_LIMIT_BYTES:
            raise GarbageError(f"an answer of {size} bytes, at most {ANSWER_LIMIT_BYTES} are sent")
        end = _HEADER.size + size
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[_HEADER.size : end])
        del self._bytes[:end]
        try:
            answer = json.loads(body)
        except ValueError as error:
            raise GarbageError(f"{body[:24]!r} instead of JSON: {error}") from None
        if not isinstance(answer, dict):
            raise GarbageError(f"{body[:24]!r} instead of a JSON object")
        return number, answer
