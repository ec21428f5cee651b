"""`debug._non_finite`: ranges are those of NumPy, and the text of a report has all of it."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_filter.debug._non_finite
from eqx_filter.debug import NonFinite

holds, range_of = eqx_filter.debug._non_finite.holds, eqx_filter.debug._non_finite.range_of

FLOATS = [jnp.float16, jnp.bfloat16, jnp.float32]


@pytest.mark.parametrize("dtype", FLOATS)
def test_ranges_leave_out_what_is_not_finite(dtype):
    x = jnp.array([[1.5, jnp.nan, -2.0], [jnp.inf, -jnp.inf, 0.0]], dtype)
    found = range_of(x, "x")
    assert (found.name, found.dtype, found.shape) == ("x", jnp.dtype(dtype).name, (2, 3))
    assert (found.min, found.max, found.nan, found.inf) == (-2.0, 1.5, 1, 2)
    assert holds(x) == (True, True)
    assert holds(x[:, 2]) == (False, False)


def test_floats_of_eight_bits_and_complex_numbers_have_ranges():
    small = range_of(jnp.array([1.0, -2.0], jnp.float8_e4m3fn))
    assert (small.dtype, small.min, small.max) == ("float8_e4m3fn", -2.0, 1.0)
    found = range_of(jnp.array([3 + 4j, 1j, complex(np.nan, 1)], jnp.complex64))
    assert (found.min, found.max, found.nan) == (1.0, 5.0, 1)


@pytest.mark.parametrize("x", [jnp.ones((0, 2)), jr.key(0)], ids=["empty", "key"])
def test_what_has_no_numbers_has_no_range(x):
    found = range_of(x)
    assert (found.min, found.max, found.nan, found.inf) == (None, None, 0, 0)
    assert holds(x) == (False, False)


def test_numbers_that_stand_in_a_program_count():
    assert holds(-np.inf) == (False, True)
    assert holds(float("nan")) == (True, False)
    assert holds(3) == (False, False)
    assert range_of(2.5).max == 2.5


def test_the_text_of_a_range_is_short():
    assert str(range_of(jnp.array([1.0, 3.0, np.nan]), "w")) == "f32[3] from 1 to 3, 1 NaN of 3   `w`"
    assert str(range_of(jnp.arange(4, dtype=jnp.int8))) == "int8[4] from 0 to 3"
    assert str(range_of(jnp.array(np.inf, jnp.bfloat16))) == "bf16[], 1 Inf of 1"


def test_the_text_of_a_report_names_each_loop_from_the_inside():
    x = range_of(jnp.array(-1.0), "x")
    report = NonFinite(
        "NaN", "backward", "m.a", "log", (), (("scan", 3), ("while", 0)), (x,), range_of(jnp.array(np.nan))
    )
    assert str(report) == (
        "NaN in the backward pass, in `m.a`, step 0 of a while, step 3 of a scan\n"
        "  log\n"
        "    in   f32[] = -1   `x`\n"
        "    out  f32[], 1 NaN of 1"
    )
