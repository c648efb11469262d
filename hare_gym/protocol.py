"""How an agent in a process of its own is spoken to: the frames, and what is in them. Version 1.

A frame is ``u32 length | u64 nonce | msgpack``, little-endian; the length counts the nonce and the body. The host
asks and the worker answers with the nonce of the question, so that an answer which comes twice, early or unasked is
told apart. There are no extension types and nothing is ever unpickled: an array is a map of its dtype, shape, order
and raw bytes, and only the dtypes of :data:`DTYPES` exist.

Questions (``op``) and their answers:

===========  ==========================================================  ==========================================
``hello``    ``version``                                                 ``version``, ``hare_gym``
``start``    ``agent``, ``kwargs``, ``folder``                           ``modes``
``reset``    ``task`` (its JSON), ``pool`` (array or nil), ``seed``      nothing
``round``    ``observation``, ``learn`` of the round before, ``lanes``   ``action``
``end``      ``learn`` of the last round                                 nothing
===========  ==========================================================  ==========================================

``learn`` is ``nil`` (nobody saw the reward) or ``[outcome or nil, reward]``; with ``lanes`` above 1 every value of an
observation and of an outcome, and the reward, has a leading axis, so that one frame carries a batch of rounds. A
failure of the agent is answered by ``{"error": {"type", "message", "traceback"}}``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgpack
import numpy as np

from hare_gym.errors import HareError

VERSION = 1

HEADER = struct.Struct("<IQ")
"""Length of what follows the length, and the nonce."""

MAX_ANSWER = 1 << 20
"""The longest frame that a worker may send, in bytes."""

MAX_QUESTION = 1 << 28
"""The longest frame that a worker takes: a task can hold a large pool and its texts."""

DTYPES = frozenset({"|b1", "|i1", "|u1", "<i2", "<i4", "<i8", "<u8", "<f4", "<f8"})
"""The dtypes that an array may have on the wire."""

_ARRAY_KEYS = {"dtype", "shape", "order", "data"}


class ProtocolError(HareError):
    """Bytes that are no frame of this protocol, or a frame that was not asked for."""


def frame(nonce: int, message: Mapping[str, Any]) -> bytes:
    """``message`` as a frame.

    Raises:
        TypeError: A value that the protocol cannot carry.
    """
    body: bytes = msgpack.packb(message, default=_plain)
    return HEADER.pack(len(body) + 8, nonce) + body


def opened(body: bytes) -> dict[str, Any]:
    """The message in a frame's body, arrays made arrays again.

    Raises:
        ProtocolError: The bytes are no msgpack map, or hold an extension type, a map whose keys are no texts, or an
            array that contradicts itself.
    """
    try:
        message = msgpack.unpackb(body, object_hook=_map, list_hook=_list, ext_hook=_no_extension)
    except ProtocolError:
        raise
    except (ValueError, TypeError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"The frame holds no message: {str(error)[:200] or type(error).__name__}.") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"The frame must hold a map, not {type(message).__name__}.")
    return message


def _plain(value: Any) -> Any:
    """What msgpack does not know: numpy's arrays and scalars."""
    if isinstance(value, np.ndarray):
        dtype = _wire_dtype(value.dtype)
        # the order of the axes in memory decides the last bits of products, so it is kept
        order: Any = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        data = value.astype(dtype, copy=False).tobytes(order)
        return {"dtype": dtype, "shape": list(value.shape), "order": order, "data": data}
    if isinstance(value, np.bool_ | np.integer | np.floating):
        return value.item()
    raise TypeError(f"A value of type {type(value).__name__} cannot be sent: {value!r:.80}")


@cache
def _wire_dtype(dtype: np.dtype[Any]) -> str:
    little = dtype.newbyteorder("<").str
    if little not in DTYPES:
        raise TypeError(f"An array of dtype {dtype} cannot be sent; send one of {', '.join(sorted(DTYPES))}.")
    return little


def _map(value: dict[str, Any]) -> Any:
    _list(value.values())
    return _array(value) if value.keys() == _ARRAY_KEYS else value


def _list(values: Any) -> Any:
    for value in values:  # msgpack makes these itself, without asking for the other extension types
        if type(value) is msgpack.Timestamp:
            raise ProtocolError("The frame holds a timestamp; the protocol has none.")
    return values


def _array(value: dict[str, Any]) -> Any:
    dtype, shape, order, data = value["dtype"], value["shape"], value["order"], value["data"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ProtocolError(f"An array cannot have the dtype {dtype!r:.80}.")
    sizes = isinstance(shape, list) and len(shape) <= 8 and all(type(n) is int and 0 <= n < 1 << 32 for n in shape)
    if not sizes or order not in ("C", "F") or not isinstance(data, bytes):
        raise ProtocolError("An array needs a shape of at most 8 whole numbers, the order C or F, and bytes.")
    count = 1
    for n in shape:
        count *= n
    if count * np.dtype(dtype).itemsize != len(data):
        raise ProtocolError(f"An array of {dtype} and shape {shape} cannot have {len(data)} bytes.")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy("K")  # its owner may write into it


def _no_extension(code: int, data: bytes) -> Any:
    raise ProtocolError(f"The frame holds the extension type {code}; the protocol has none.")
