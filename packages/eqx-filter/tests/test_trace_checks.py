import jax.numpy as jnp
import pytest

import eqx_filter
import eqx_filter.internal


@pytest.fixture
def checked(monkeypatch):
    """The functions that were traced."""
    monkeypatch.setattr("eqx_filter._trace_checks._CHECKS", [])
    seen = []

    def check(fun):
        seen.append(fun)
        return lambda *args: fun(*args) + 1

    eqx_filter.internal.check_each_trace(check)
    return seen


def test_each_trace_is_checked_once(checked):
    def fun(x):
        return 2 * x

    jitted = eqx_filter.filter_jit(fun)
    assert [int(jitted(jnp.array(2))) for _ in range(3)] == [5, 5, 5]
    assert checked == [fun]
    assert jitted(jnp.ones(2)).shape == (2,)
    assert checked == [fun, fun]
