"""`_evaluate_jaxpr`: each equation is run as one likes, and nothing is kept for longer than it takes."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np

import eqx_filter._evaluate_jaxpr
import eqx_filter._jax_compat

evaluate_jaxpr, in_the_form_of = eqx_filter._evaluate_jaxpr.evaluate_jaxpr, eqx_filter._evaluate_jaxpr.in_the_form_of
bind_equation = eqx_filter._jax_compat.bind_equation

TABLE = np.arange(3.0, dtype=np.float32)


def program(x, y):
    _, rest = jnp.split(x, [1])
    return jnp.sin(rest) * 2 + y, x, 3, jnp.sum(TABLE) * y


def test_bound_one_by_one_it_is_what_jax_computes():
    args = jnp.arange(3.0), jnp.float32(5)
    closed = jax.make_jaxpr(program)(*args)
    out = evaluate_jaxpr(closed.jaxpr, closed.consts, args, bind_equation)
    for got, expected in zip(out, program(*args), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_values_may_be_anything():
    closed = jax.make_jaxpr(lambda x: jnp.maximum(jnp.sin(x), jnp.cos(x)))(0.0)
    texts = evaluate_jaxpr(
        closed.jaxpr, [], ["x"], lambda eqn, args: [f"{eqn.primitive.name}({', '.join(map(str, args))})"]
    )
    assert texts == ["max(sin(x), cos(x))"]


def test_what_is_not_needed_any_more_is_let_go():
    class Value:
        pass

    alive = []
    seen = weakref.WeakSet()

    def equation(eqn, args):
        del args
        gc.collect()
        alive.append(len(seen))
        value = Value()
        seen.add(value)
        return [value]

    closed = jax.make_jaxpr(lambda x: jnp.sin(jnp.sin(jnp.sin(jnp.sin(x)))))(0.0)
    evaluate_jaxpr(closed.jaxpr, [], [0.0], equation)
    # The operand of an equation and no more: the caller still holds that.
    assert alive == [0, 1, 1, 1]


def test_jaxprs_keep_their_form():
    closed = jax.make_jaxpr(lambda x: x + jnp.asarray(TABLE))(jnp.ones(3))
    bare = jax.make_jaxpr(lambda x: x + 1)(jnp.ones(3))
    assert in_the_form_of(closed, closed) is closed
    opened = in_the_form_of(bare.jaxpr, closed)
    assert not getattr(opened, "consts", ())
    assert len(opened.constvars) == 0
    np.testing.assert_array_equal(jax.core.eval_jaxpr(opened, [], jnp.ones(3))[0], 1 + TABLE)
    assert in_the_form_of(bare, closed).consts in ([], ())
