"""Dtypes are converted on request, and no number changes more than its last digits."""

import io

import jax
import jax.numpy as jnp
import jax.random as jr
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

import eqx_serialise

FLOATS = ["float16", "bfloat16", "float32", "float64", "float8_e5m2"]


def cast(array, dtype, rule=True):
    file = io.BytesIO()
    eqx_serialise.save(file, [array])
    file.seek(0)
    return eqx_serialise.load(file, [np.zeros(np.shape(array), dtype)], cast=rule)[0]


@pytest.mark.parametrize("before", FLOATS)
@pytest.mark.parametrize("after", FLOATS)
def test_floats_are_rounded_as_numpy_rounds_them(before, after):
    array = np.array([0.0, -0.0, 1.0, -2.5, 1 / 3, np.inf, -np.inf, np.nan]).astype(np.dtype(before))
    back = cast(array, after)
    assert back.dtype == np.dtype(after)
    np.testing.assert_array_equal(back.astype(np.float64), array.astype(np.dtype(after)).astype(np.float64))


@given(array=hnp.arrays(np.float64, 5), after=st.sampled_from([*FLOATS, "float8_e4m3fn", "float4_e2m1fn"]))
def test_a_float_that_is_finite_stays_so_or_is_refused(array, after):
    dtype = np.dtype(after)
    largest = float(ml_dtypes.finfo(dtype).max)
    finite = array[np.isfinite(array)]
    try:
        back = cast(array, dtype).astype(np.float64)
    except eqx_serialise.CheckpointError:
        special = not np.all(np.isfinite(array)) and after in {"float8_e4m3fn", "float4_e2m1fn"}
        assert special or np.any(np.abs(finite) > largest)
    else:
        assert np.all(np.abs(finite) <= largest * 1.25)
        np.testing.assert_array_equal(np.isnan(back), np.isnan(array))
        np.testing.assert_array_equal(np.isinf(back), np.isinf(array))


@pytest.mark.parametrize("like", [jnp.zeros(2, jnp.bfloat16), jax.ShapeDtypeStruct((2,), jnp.bfloat16)])
def test_jax_arrays_are_converted_on_the_host(like, saved):
    back = eqx_serialise.load(io.BytesIO(saved([jnp.array([1.0, 1 / 3])])), [like], cast=True)[0]
    np.testing.assert_array_equal(back, jnp.array([1.0, 1 / 3], jnp.bfloat16))


@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        ([1, -1], "int32", "int8"),
        ([200], "uint8", "int16"),
        ([3], "int64", "uint8"),
        ([7], "int8", "int4"),
        ([1j, 2], "complex128", "complex64"),
    ],
)
def test_numbers_that_fit_stay_what_they_are(values, before, after):
    array = np.array(values).astype(np.dtype(before))
    np.testing.assert_array_equal(cast(array, after).astype(array.dtype), array)


@pytest.mark.parametrize(
    ("values", "before", "after"),
    [
        ([300], "int32", "int8"),
        ([-1], "int8", "uint8"),
        ([200], "uint8", "int8"),
        ([2**63], "uint64", "int64"),
        ([8], "int8", "int4"),
        ([1e300], "float64", "float32"),
        ([70000.0], "float32", "float16"),
        ([1e6], "float32", "float8_e4m3fn"),
        ([1e6], "float32", "float4_e2m1fn"),
        ([np.nan], "float32", "float4_e2m1fn"),
        ([1e300j], "complex128", "complex64"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(values, before, after):
    array = np.array(values).astype(np.dtype(before))
    with pytest.raises(
        eqx_serialise.CheckpointError,
        match=rf"<BytesIO>\)` must hold numbers that `load\(cast=...\)` can .* not fit into {after} at `\[0\]`. Give",
    ):
        cast(array, after)


@pytest.mark.parametrize(
    ("values", "before", "after", "fits"),
    [
        ([1.0], "float32", "int32", True),
        ([1.5], "float32", "int32", False),
        ([np.nan], "float32", "int32", False),
        ([1, 0], "int32", "bool", True),
        ([2], "int32", "bool", False),
        ([True], "bool", "float32", True),
        ([2**53 + 1], "int64", "float64", False),
        ([2**24 + 1], "int32", "float32", False),
        ([1 + 0j], "complex64", "float32", True),
        ([1 + 1j], "complex64", "float32", False),
        ([1.5], "float32", "complex64", True),
    ],
)
def test_a_rule_may_allow_other_kinds_where_nothing_is_lost(values, before, after, fits):
    array = np.array(values).astype(before)
    with pytest.raises(eqx_serialise.CheckpointError, match="of another dtype"):
        cast(array, after, rule=lambda *_: False)
    if fits:
        assert cast(array, after, rule=lambda *_: True).tolist() == values
    else:
        with pytest.raises(eqx_serialise.CheckpointError, match="numbers that do not fit"):
            cast(array, after, rule=lambda *_: True)


def test_a_rule_is_asked_with_the_name_and_both_dtypes(saved):
    asked = []

    def rule(name, before, after):
        asked.append((name, before, after))
        return True

    tree = {"a": np.zeros(1, np.float32), "b": np.zeros(1)}
    eqx_serialise.load(io.BytesIO(saved(tree)), {"a": np.zeros(1), "b": np.zeros(1)}, cast=rule)
    assert asked == [("['a']", np.dtype("f4"), np.dtype("f8"))]


@pytest.mark.parametrize(
    ("tree", "like"),
    [
        (np.ones(1), np.ones(1, np.int32)),
        (np.ones(1, bool), np.ones(1, np.int32)),
        (np.ones(2), np.ones((2, 1), np.float32)),
        (1.0, 1),
        (1.0, np.ones(())),
        (np.zeros(2, np.uint32), jr.key(0)),
    ],
)
def test_true_casts_neither_kinds_nor_shapes(tree, like, saved):
    with pytest.raises(eqx_serialise.CheckpointError, match="of another"):
        eqx_serialise.load(io.BytesIO(saved(tree)), like, cast=True)


@pytest.mark.parametrize("value", ["float32", np.float32(1), {"float32": "bfloat16"}])
def test_what_is_no_rule_is_refused(value, saved):
    with pytest.raises(TypeError, match=r"`load\(cast=...\)` must be True, or a function .*; got `\w+`. The dtype"):
        eqx_serialise.load(io.BytesIO(saved([1.0])), [1.0], cast=value)
