"""exp, log, sin and sums of products from +, -, x and / alone.

NumPy picks a different exp, log and sin for each processor, and BLAS sums in an order of its own. A reward made with
them would not replay to the same bits elsewhere. IEEE 754 fixes the four operations and the square root, so these
give the same bits on every machine, for one float as for an array of any shape.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", float, NDArray[np.float64])

_EXP_HALVINGS = 10
_EXP_COEFFICIENTS = tuple(1.0 / math.factorial(k) for k in range(7, -1, -1))
# The minimax polynomial of sin(x)/x in x^2 on [0, pi/2], error 5e-14.
_SIN_COEFFICIENTS = (
    1.5410962231622655e-10,
    -2.5030250708358953e-08,
    2.755695247154326e-06,
    -0.00019841266678046564,
    0.008333333320332198,
    -0.16666666666466187,
    0.9999999999999495,
)
_LOG_2 = math.log(2.0)
_LOG_COEFFICIENTS = tuple(2.0 / (2 * k + 1) for k in range(9, -1, -1))


def exp(x: F) -> F:
    """e^x for -64 <= x <= 64, relative error below 1e-11: a Taylor polynomial of x/1024, squared ten times."""
    x = x * (1.0 / 2**_EXP_HALVINGS)
    y = x * _EXP_COEFFICIENTS[0] + _EXP_COEFFICIENTS[1]
    for coefficient in _EXP_COEFFICIENTS[2:]:
        y *= x
        y += coefficient
    for _ in range(_EXP_HALVINGS):
        y *= y
    return y


def log(x: F) -> F:
    """The natural logarithm of x > 0, relative error below 1e-12: x = m 2^e, then 2 artanh((m - 1)/(m + 1))."""
    mantissa, exponent = np.frexp(x) if isinstance(x, np.ndarray) else math.frexp(x)
    # from [1/2, 1) to [2/3, 4/3), where the series is short
    small = 1.0 * (mantissa < 2.0 / 3.0)
    mantissa = mantissa * (1.0 + small)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    s2 = s * s
    y = s2 * _LOG_COEFFICIENTS[0] + _LOG_COEFFICIENTS[1]
    for coefficient in _LOG_COEFFICIENTS[2:]:
        y *= s2
        y += coefficient
    result: F = y * s + (exponent - small) * _LOG_2
    return result


def sin(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sine, absolute error below 1e-12 for |x| up to 1e3: reduced to [-pi/2, pi/2]."""
    half_turns = np.rint(x * (1.0 / math.pi))
    x = x - half_turns * math.pi
    sign = 1.0 - 2.0 * (half_turns - 2.0 * np.floor(half_turns * 0.5))
    x2 = x * x
    y: NDArray[np.float64] = x2 * _SIN_COEFFICIENTS[0] + _SIN_COEFFICIENTS[1]
    for coefficient in _SIN_COEFFICIENTS[2:]:
        y *= x2
        y += coefficient
    y *= x
    y *= sign
    return y


def dot(a: Any, b: Any) -> Any:
    """Sum over the *first* axis of a * b, added in order."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total += a[i] * b[i]
    return total


def matvec(
    matrix: NDArray[np.float64], x: NDArray[np.float64], start: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """``y[i] = start[i] + sum over j of matrix[i, j] * x[j]``, added in order of j.

    Args:
        matrix: ``(n, m, ...)``.
        x: ``(m, ...)``; the trailing axes broadcast against the matrix's.
        start: ``(n, ...)``, zero by default; it is overwritten.

    Returns:
        ``(n, ...)``.
    """
    y = start
    if y is None:
        y = aligned((len(matrix), *np.broadcast_shapes(matrix.shape[2:], x.shape[1:])))
        np.multiply(matrix[:, 0], x[0], out=y)
    product = aligned(y.shape[1:])
    for row, total in zip(matrix, y, strict=True):
        for j in range(0 if start is not None else 1, len(x)):
            total += np.multiply(row[j], x[j], out=product)
    return y


def aligned(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """An uninitialised array that begins on a cache line, in which long sums run a quarter faster."""
    size = math.prod(shape)
    room = np.empty(size + 8)
    first = -room.ctypes.data % 64 // 8
    return room[first : first + size].reshape(shape)


def align(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """A copy of ``x`` that is :func:`aligned`."""
    copy = aligned(x.shape)
    copy[...] = x
    return copy


def normalise(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``x`` over its Euclidean length along the first axis."""
    y = aligned(x.shape)
    np.multiply(x, 1.0 / np.sqrt(dot(x, x)), out=y)
    return y


def orthonormal_columns(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gram-Schmidt, twice for accuracy, over the columns of ``(n, m, ...)`` with m <= n."""
    columns: list[NDArray[np.float64]] = []
    for j in range(matrix.shape[1]):
        column = matrix[:, j]
        for _ in range(2):
            for earlier in columns:
                column = column - earlier * dot(earlier, column)
        columns.append(normalise(column))
    return np.stack(columns, axis=1)
