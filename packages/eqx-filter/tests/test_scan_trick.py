import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_filter.internal import scan_trick

INTERMEDIATES = [lambda x: 2 * x, lambda x: x * x, lambda x: jnp.sin(x)]


def step(x):
    return jnp.cos(x) + 3 * x


def unrolled(x, intermediates=INTERMEDIATES):
    for intermediate in intermediates:
        x = intermediate(step(x))
    return step(x)


@pytest.mark.parametrize("count", range(4))
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit, jax.grad, jax.hessian])
@pytest.mark.parametrize("batch", [lambda f: f, jax.vmap])
def test_it_is_the_loop_that_it_stands_for(count, transform, batch):
    x = jnp.array(0.3) if batch is not jax.vmap else jnp.array([0.3, 0.6])
    intermediates = INTERMEDIATES[:count]
    ours = batch(transform(lambda x: scan_trick(step, intermediates, x)))(x)
    np.testing.assert_allclose(ours, batch(transform(lambda x: unrolled(x, intermediates)))(x), rtol=1e-4)


def test_the_function_is_traced_once():
    calls = []

    def counted(x):
        calls.append(1)
        return step(x)

    jax.jit(lambda x: scan_trick(counted, INTERMEDIATES, x))(jnp.array(1.0))
    assert len(calls) == 1


def test_the_carry_may_be_any_tree_of_arrays():
    out = scan_trick(
        lambda t: {"n": t["n"] + 1, "x": t["x"]},
        [lambda t: t | {"x": 2 * t["x"]}],
        {"n": jnp.array(0), "x": jnp.ones(2)},
    )
    assert out["n"] == 2
    assert out["x"].tolist() == [2.0, 2.0]


def test_mapped_over_it_still_runs_one_branch_at_a_time():
    jaxpr = jax.make_jaxpr(jax.vmap(lambda x: scan_trick(step, INTERMEDIATES, x)))(jnp.ones(3))
    assert "cond[" in str(jaxpr)
    assert "select" not in str(jaxpr)
