"""Bytes from strangers: what is not what it declares is refused in a sentence, before memory is spent on it."""

from __future__ import annotations

import json
import struct
import tracemalloc

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sofa_engine.errors import SofaError
from sofa_service.errors import MessageError, TooLargeError
from sofa_service.framing import FrameReader, Limits, decode, encode, encode_frame

SMALL = Limits(message_bytes=1 << 20, raw_bytes=1 << 22)


def forged(table, payload=b"", meta="{}"):
    """Pack a message by hand, declaring whatever `table` says."""
    header = json.dumps({"meta": json.loads(meta), "arrays": table}).encode()
    return b"SOFA" + struct.pack("<I", len(header)) + header + payload


def entry(payload, shape=(4,), dtype="uint8", name="t1"):
    return {"name": name, "dtype": dtype, "shape": list(shape), "size": len(payload)}


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_arrays_arrive_as_they_were_sent(dtype):
    array = (np.random.default_rng(0).random((5, 6, 7)) * 99).astype(dtype)
    packet = decode(encode('{"a": 1}', {"x": array, "y": array[::2, :, ::-1]}))
    assert packet.meta == {"a": 1}
    np.testing.assert_array_equal(packet.arrays["x"], array)
    np.testing.assert_array_equal(packet.arrays["y"], array[::2, :, ::-1])


def test_a_stream_cut_anywhere_gives_the_same_frames():
    message = encode('{"n": 1}', {"labels": np.ones((3, 4, 5), np.uint8)})
    stream = encode_frame(message) * 3
    for size in (1, 7, len(stream)):
        reader = FrameReader()
        packets = [p for i in range(0, len(stream), size) for p in reader.feed(stream[i : i + size])]
        assert [p.arrays["labels"].sum() for p in packets] == [60, 60, 60]


def test_a_bomb_that_declares_its_size_is_refused_before_it_is_unpacked():
    bomb = zstandard.compress(bytes(64 << 20))
    assert len(bomb) < 10_000
    tracemalloc.start()
    with pytest.raises(TooLargeError, match="64 MiB; at most 4 MiB"):
        decode(forged([entry(bomb, (4096, 4096, 4))], bomb), SMALL)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_bomb_that_declares_less_than_it_holds_is_refused():
    bomb = zstandard.compress(bytes(64 << 20))
    with pytest.raises(MessageError, match="unpacks to 67108864 bytes but declares 4"):
        decode(forged([entry(bomb)], bomb), SMALL)


def test_a_bomb_that_declares_nothing_is_refused():
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    with pytest.raises(MessageError):
        decode(forged([entry(unsized)], unsized), SMALL)


def test_a_bomb_hidden_behind_a_harmless_frame_is_not_unpacked():
    payload = zstandard.compress(bytes(4)) + zstandard.compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        decode(forged([entry(payload)], payload), SMALL)
    except MessageError:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_many_arrays_cannot_add_up_to_more_than_the_limit():
    part = zstandard.compress(bytes(2 << 20))
    with pytest.raises(TooLargeError):
        decode(forged([entry(part, (2 << 10, 1 << 10), name=f"a{i}") for i in range(3)], part * 3), SMALL)


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"", "not a SOFA message"),
        (b"GET / HTTP/1.1\r\n", "not a SOFA message"),
        (b"SOFA\xff\xff\xff\xff", "header has 4294967295 bytes"),
        (b"SOFA\x02\x00\x00\x00{}", "header cannot be read"),
        (b"SOFA" + struct.pack("<I", 200_000) + b"[" * 200_000, "header cannot be read"),
        (forged([entry(b"xxxx")], b"xxxx"), "damaged or not zstd"),
        (forged([{**entry(b""), "dtype": "object"}]), "header cannot be read"),
        (forged([{**entry(b""), "shape": [-1]}]), "axis outside"),
        (forged([{**entry(b""), "shape": [2.5]}]), "whole numbers"),
        (forged([{**entry(b""), "shape": [True]}]), "whole numbers"),
        (forged([{**entry(b""), "size": -5}]), "whole numbers"),
        (forged([entry(b"")] * 2), "named once"),
        (encode("{}", {"x": np.zeros(9, np.uint8)}) + b"more", "longer or shorter"),
    ],
)
def test_what_is_no_message_is_refused_in_a_sentence(message, sentence):
    with pytest.raises(MessageError, match=sentence):
        decode(message, SMALL)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_message_is_refused_or_read_but_never_crashes(data):
    message = bytearray(encode('{"a": 1}', {"x": np.arange(60, dtype=np.float32).reshape(3, 4, 5)}))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    for damaged in (bytes(message), bytes(message[:cut])):
        try:
            decode(damaged, SMALL)
        except SofaError as error:
            assert str(error)


def test_an_endless_frame_is_refused_at_its_first_bytes():
    with pytest.raises(TooLargeError):
        list(FrameReader(SMALL).feed(b"\xff\xff\xff\xff"))
