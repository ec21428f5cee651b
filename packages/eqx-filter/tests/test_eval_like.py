import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import eqx_filter
from eqx_filter.internal import eval_empty, eval_zero

BOTH = pytest.mark.parametrize("like", [eval_empty, eval_zero])


def fn(x, n, name):
    return {
        "sum": jnp.sum(x, 0),
        "n": n,
        "none": None,
        "name": name,
        "bf16": x.astype(jnp.bfloat16),
        "i": jnp.arange(3),
    }


@BOTH
@pytest.mark.parametrize("jit", [lambda f: f, eqx_filter.filter_jit])
def test_the_result_is_like_that_of_the_function(like, jit):
    out, expected = jit(lambda x: like(fn, x, 2, "a"))(jnp.ones((2, 3))), fn(jnp.ones((2, 3)), 2, "a")
    assert jax.tree.structure(out) == jax.tree.structure(expected)
    assert (out["n"], out["name"]) == (2, "a")
    for name in ("sum", "bf16", "i"):
        assert (out[name].shape, out[name].dtype) == (expected[name].shape, expected[name].dtype)


def test_zeros_are_zeros():
    assert eval_zero(lambda x: x + 1, jnp.ones(3)).tolist() == [0.0, 0.0, 0.0]
    assert eval_zero(lambda: None) is None


@BOTH
def test_nothing_is_computed(like):
    ran = []
    like(lambda x: jax.pure_callback(lambda x: ran.append(x) or x, x, x), jnp.ones(3))
    like(lambda key: jr.normal(key, (10**6, 10**6))[:2, :2], jr.key(0))
    assert ran == []


@BOTH
def test_it_works_under_transformations(like):
    assert jax.vmap(lambda x: like(jnp.sin, x) + x)(jnp.ones(3)).shape == (3,)
    assert jax.grad(lambda x: eval_zero(jnp.sin, x) + x)(1.0) == 1.0
    assert like(jnp.sin, jax.ShapeDtypeStruct((2,), jnp.float32)).shape == (2,)
