import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqx_filter.internal import nontraceable

ONE = jnp.array(1.0)
FORBIDDEN = {
    "differentiation": [
        lambda f: jax.grad(f)(1.0),
        lambda f: jax.jvp(f, (1.0,), (1.0,)),
        lambda f: jax.linearize(f, 1.0),
        lambda f: jax.jit(jax.grad(f))(1.0),
    ],
    "transposition": [lambda f: jax.linear_transpose(f, 1.0)(1.0)],
    "batching": [lambda f: jax.vmap(f)(jnp.ones(2)), lambda f: jax.jit(jax.vmap(jax.jit(f)))(jnp.ones(2))],
}
CASES = pytest.mark.parametrize(
    ("what", "transform"), [(what, transform) for what, all_of in FORBIDDEN.items() for transform in all_of]
)


def test_it_is_the_identity():
    tree = {"x": jnp.ones(2), "n": 1, "s": "s", "np": np.ones(2), "none": None}
    assert all(nontraceable(tree)[name] is value for name, value in tree.items())
    assert jax.jit(lambda x: nontraceable((x, "s"))[0])(ONE) == 1.0
    assert jax.eval_shape(nontraceable, ONE).shape == ()
    assert jax.lax.scan(lambda c, x: (nontraceable(c) + x, None), ONE, jnp.ones(3))[0] == 4.0


@CASES
def test_every_transformation_is_refused(what, transform):
    with pytest.raises(RuntimeError, match=rf"^Detected {what} of My thing\. Pass what is traced as an argument, or"):
        transform(lambda x: nontraceable(x, name="My thing"))
    with pytest.raises(RuntimeError, match=rf"^Detected {what} of nontraceable operation\."):
        transform(lambda x: nontraceable({"x": x})["x"])


@CASES
def test_so_it_is_when_the_program_is_evaluated_again(what, transform):
    jaxpr = jax.make_jaxpr(nontraceable)(1.0)
    with pytest.raises(RuntimeError, match=f"^Detected {what}"):
        transform(lambda x: jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, x)[0])


def test_what_the_transformation_does_not_reach_passes():
    assert jax.grad(lambda x: x * nontraceable(jax.lax.stop_gradient(x)))(2.0) == 2.0
    assert jax.vmap(lambda x, y: x * nontraceable(y), (0, None))(jnp.ones(2), ONE).tolist() == [1.0, 1.0]
    assert jax.vmap(lambda x: x * nontraceable(ONE), axis_name="i")(jnp.ones(2)).tolist() == [1.0, 1.0]
