"""Which results of a jaxpr vary, and some of its results without the others."""

import jax
import jax.numpy as jnp
import numpy as np

import eqx_loops._jaxpr_slices

some_results = eqx_loops._jaxpr_slices.some_results
varying_results = eqx_loops._jaxpr_slices.varying_results


def program(fun, *args):
    return jax.make_jaxpr(fun)(*args)


def test_what_depends_on_something_that_varies_varies():
    closed = program(lambda w, x: (jnp.exp(w), w * x, jnp.sin(jnp.exp(w)) + x, w, x, 1.0), 1.0, 2.0)
    assert varying_results(closed, [False, True]) == [False, True, True, False, True, False]
    assert varying_results(closed, [True, False]) == [True, True, True, True, False, False]
    assert varying_results(closed, [False, False]) == [False] * 6


def test_what_is_inside_of_a_call_varies_with_it():
    closed = program(lambda w, x: jax.lax.cond(x > 0, lambda w: w, jnp.sin, w), 1.0, 2.0)
    assert varying_results(closed, [False, True]) == [True]


def test_what_prints_varies():
    def fun(w):
        number = jax.pure_callback(lambda w: w, jax.ShapeDtypeStruct((), jnp.float32), w)
        jax.debug.callback(lambda w: None, w)
        return number, jnp.sin(w)

    assert varying_results(program(fun, 1.0), [False]) == [False, False]
    scanned = lambda w: jax.lax.scan(lambda c, _: (c + 1, jax.debug.callback(print, c)), w, None, length=2)[0]  # noqa: E731
    assert varying_results(program(scanned, 1.0), [False]) == [True]


def test_some_results_are_those_of_the_whole():
    constant = jnp.arange(3.0)
    closed = program(lambda w, x: (jnp.exp(w) + constant, w * x, x, 2.0), 1.0, 2.0)
    for wanted in ([True, False, True, True], [False, True, False, False], [False] * 4):
        expected = [
            out
            for out, asked in zip(jax.core.eval_jaxpr(closed.jaxpr, closed.consts, 1.0, 2.0), wanted, strict=True)
            if asked
        ]
        got = some_results(closed, wanted, [1.0, 2.0])
        assert len(got) == len(expected)
        for x, y in zip(got, expected, strict=True):
            np.testing.assert_array_equal(x, y)


def test_what_is_not_wanted_is_not_computed():
    calls = []
    closed = program(
        lambda w, x: (jnp.exp(w), jax.pure_callback(lambda x: calls.append(0) or x, x, x)), 1.0, jnp.float32(2)
    )
    # An argument that is not needed may be anything.
    (result,) = some_results(closed, [True, False], [1.0, None])
    np.testing.assert_allclose(result, np.exp(1.0), rtol=1e-6)
    assert calls == []
