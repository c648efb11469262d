"""The frames between host and worker: what goes in comes out with the same bits, and nothing else is taken."""

import contextlib
import pickle
import struct

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hare_gym.protocol import DTYPES, HEADER, ProtocolError, frame, opened


def through(message):
    data = frame(7, message)
    length, nonce = HEADER.unpack_from(data)
    assert (length, nonce) == (len(data) - 4, 7)
    return opened(data[HEADER.size :])


def test_a_frame_is_its_length_its_nonce_and_msgpack():
    data = frame(2**64 - 1, {"op": "end"})
    assert struct.unpack("<IQ", data[:12]) == (8 + len(data) - 12, 2**64 - 1)
    assert msgpack.unpackb(data[12:]) == {"op": "end"}


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_arrays_keep_dtype_shape_bits_and_order(dtype):
    array = np.arange(24).astype(dtype).reshape(2, 3, 4)
    for sent in (array, np.asfortranarray(array), array[:, ::2], array[:0], np.array(array[0, 0, 0])):
        got = through({"a": sent})["a"]
        assert got.dtype == sent.dtype and got.shape == sent.shape and got.tobytes() == sent.tobytes()
        assert got.flags.writeable
    assert through({"a": np.asfortranarray(array)})["a"].flags.f_contiguous


def test_big_endian_arrays_arrive_little_endian():
    got = through({"a": np.array([1.5, -2.0], dtype=">f8")})["a"]
    assert got.dtype == np.dtype("<f8") and got.tolist() == [1.5, -2.0]


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
        max_leaves=12,
    )
)
def test_plain_values_come_back(value):
    assert through({"value": value}) == {"value": value}


def test_numpy_scalars_become_plain_numbers():
    got = through({"i": np.int64(3), "f": np.float32(0.5), "b": np.bool_(True)})
    assert got == {"i": 3, "f": 0.5, "b": True} and type(got["i"]) is int and got["b"] is True


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, np.array([object()]), np.array(["text"]), np.array([1j]), np.zeros(2, np.float16)]
)
def test_what_the_protocol_cannot_carry_is_refused_when_sent(value):
    with pytest.raises(TypeError, match="cannot be sent"):
        frame(0, {"a": value})


def array(**changes):
    values = {"dtype": "<f8", "shape": [2], "order": "C", "data": b"\0" * 16, **changes}
    return msgpack.packb({"a": values})


BAD = {
    "no msgpack": b"\xc1",
    "cut short": msgpack.packb({"a": [1, 2, 3]})[:-1],
    "something after the end": msgpack.packb({"a": 1}) + b"\0",
    "no map": msgpack.packb([1, 2]),
    "keys that are numbers": msgpack.packb({1: 2}),
    "an extension type": msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
    "a timestamp": msgpack.packb({"a": msgpack.Timestamp(1)}),
    "a pickle": pickle.dumps({"a": 1}),
    "text that is not UTF-8": b"\x81\xa1a\xa2\xff\xfe",
    "a thousand levels": b"\x81\xa1a" + b"\x91" * 1100 + b"\xc0",
    "an array that announces too much": array(shape=[1 << 31]),
    "an array of overflowing shape": array(shape=[1 << 31, 1 << 31, 1 << 31]),
    "an array of nine axes": array(shape=[1] * 9, data=b"\0" * 8),
    "an array of negative shape": array(shape=[-2]),
    "an array of objects": array(dtype="|O"),
    "an array of records": array(dtype="<f8,<f8"),
    "an array of no dtype": array(dtype=None),
    "an array in a strange order": array(order="A"),
    "an array whose data is text": array(data="0" * 16),
    "an array whose shape holds a bool": array(shape=[True], data=b"\0" * 8),
    "a string that announces four gigabytes": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "a list that announces four thousand million": b"\x81\xa1a\xdd\xff\xff\xff\xff",
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD)
def test_bad_bodies_are_refused(body):
    with pytest.raises(ProtocolError):
        opened(body)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(body):
    with contextlib.suppress(ProtocolError):
        assert isinstance(opened(body), dict)


def test_a_map_that_looks_nearly_like_an_array_stays_a_map():
    assert through({"a": {"dtype": "<f8", "shape": [1]}}) == {"a": {"dtype": "<f8", "shape": [1]}}
