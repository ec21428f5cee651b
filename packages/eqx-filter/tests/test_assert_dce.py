"""`internal.assert_dce`: it must go away."""

import jax
import jax.numpy as jnp
import pytest

from eqx_filter import EquinoxRuntimeError, filter_jit, on_error
from eqx_filter.internal import assert_dce


def test_what_is_used_is_an_error_when_it_runs():
    fun = filter_jit(lambda x: (assert_dce((x * 2, "text"), "is used")[0], x))
    lowered = fun.lower(jnp.ones(2))
    assert lowered is not None
    with pytest.raises(EquinoxRuntimeError, match="is used"):
        fun(jnp.ones(2))


def test_what_is_not_used_goes_away():
    fun = filter_jit(lambda x: (assert_dce(x * 2, "is used"), x)[1])
    assert fun(jnp.ones(2)).tolist() == [1, 1]
    assert jax.jit(jax.vmap(jax.grad(lambda x: (assert_dce(x * 2, "is used"), x)[1])))(jnp.ones(2)).tolist() == [1, 1]


def test_outside_of_jit_it_does_nothing():
    x = jnp.ones(2)
    assert assert_dce((x, "text"), "is used")[0] is x
    assert jax.vmap(lambda x: assert_dce(x, "is used"))(x).tolist() == [1, 1]
    with jax.disable_jit():
        assert filter_jit(lambda x: assert_dce(x, "is used"))(x).tolist() == [1, 1]


def test_it_can_be_turned_off():
    with on_error("off"):
        assert filter_jit(lambda x: assert_dce(x, "is used"))(jnp.ones(1)).tolist() == [1]
    assert jnp.isnan(filter_jit(lambda x: assert_dce(x, "is used", on_error="nan"))(jnp.ones(())))
