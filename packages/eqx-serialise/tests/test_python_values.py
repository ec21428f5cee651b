"""Python values come back exactly, and as what they were."""

import enum
import io
import math
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import given

import eqx_serialise

nans = st.integers(1, 2**51).map(lambda n: struct.unpack(">d", struct.pack(">Q", 0x7FF8 << 48 | n))[0])
floats = st.floats() | nans
values = st.booleans() | st.integers() | floats | st.text() | st.builds(complex, floats, floats)


def exactly(value):
    if isinstance(value, float):
        return float, struct.pack(">d", value)
    if isinstance(value, complex):
        return complex, struct.pack(">dd", value.real, value.imag)
    return type(value), value


@given(value=values)
def test_a_value_comes_back_exactly(value, round_trip):
    assert exactly(round_trip(value)) == exactly(value)


@pytest.mark.parametrize("value", [2**53, -(2**64), 10**5000, -0.0, math.inf, 5e-324, 1, 1.0, True], ids=lambda _: "")
def test_a_special_value_comes_back_exactly(value, round_trip):
    assert exactly(round_trip(value)) == exactly(value)


def test_the_file_decides_the_value_and_like_its_type(saved):
    assert eqx_serialise.load(io.BytesIO(saved({"lr": 0.1})), {"lr": 7.0}) == {"lr": 0.1}


@pytest.mark.parametrize("like", [1, 1j, True, "1.0", None, len])
def test_a_value_of_another_type_is_not_converted(saved, like):
    with pytest.raises(eqx_serialise.CheckpointError, match=r"\['lr'\]: Python float"):
        eqx_serialise.load(io.BytesIO(saved({"lr": 1.0})), {"lr": like})


def test_a_member_of_an_enumeration_is_no_number(round_trip):
    class Mode(enum.IntEnum):
        TRAIN = 1

    assert round_trip([Mode.TRAIN])[0] is Mode.TRAIN


def test_a_string_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match=r"`\[0\]` in `save\(tree\)` must be text that UTF-8"):
        eqx_serialise.save(io.BytesIO(), ["\ud800"])
