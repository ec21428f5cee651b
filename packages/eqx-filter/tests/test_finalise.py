import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

import eqx_filter
from eqx_filter.internal import (
    finalise_eval_jaxpr,
    finalise_fn,
    finalise_jaxpr,
    finalise_jaxpr_as_fn,
    finalise_make_jaxpr,
    noinline,
    nonbatchable,
    nondifferentiable_backward,
    nontraceable,
    primitive_finalisations,
    register_impl_finalisation,
    unvmap_any,
)

TABLE = np.array([1.0, 2.0], np.float32)


def new(name, impl, registered=True):
    p = Primitive(name)
    p.def_impl(impl)
    p.def_abstract_eval(lambda x: x)
    mlir.register_lowering(p, mlir.lower_fun(impl, multiple_results=False))
    if registered:
        register_impl_finalisation(p)
    return p


# The second's rule calls the first, and needs an array of its own.
inner_p = new("inner", lambda x: jnp.sin(x) * jnp.sum(TABLE))
outer_p = new("outer", lambda x: inner_p.bind(x) + jnp.sum(TABLE * 2))


def plain(x):
    return 3 * jnp.sin(x) + 6 + 3 * jnp.sin(2 * x)


def both(x):
    return outer_p.bind(x) + inner_p.bind(2 * x)


def programs(both):
    @jax.custom_vjp
    def custom_vjp(x):
        return both(x)

    @jax.custom_jvp
    def custom_jvp(x):
        return both(x)

    custom_vjp.defvjp(lambda x: (both(x), None), lambda _, g: (g,))
    custom_jvp.defjvp(lambda p, t: (both(p[0]), t[0]))
    return {
        "plain": both,
        "jit": jax.jit(both),
        "nested": jax.jit(lambda x: jax.jit(both)(x) + 1),
        "cond": lambda x: jax.lax.cond(x > 0, both, lambda x: x, x),
        "switch": lambda x: jax.lax.switch(1, [both, jnp.cos, lambda x: both(both(x))], x),
        "scan": lambda x: jax.lax.scan(lambda c, y: (both(c) + y, c), x, jnp.arange(3.0))[0],
        "while": lambda x: jax.lax.while_loop(lambda c: both(c) + 9 * c < 50, lambda c: both(c) + c + 9, x),
        "fori": lambda x: jax.lax.fori_loop(0, 3, lambda i, c: both(c), x),
        "checkpoint": jax.checkpoint(both),
        "checkpoint of scan": jax.checkpoint(
            lambda x: jax.lax.scan(lambda c, _: (both(c), None), x, None, length=2)[0]
        ),
        "custom_vjp": custom_vjp,
        "custom_jvp": custom_jvp,
        "filter_jit": eqx_filter.filter_jit(both),
    }


OURS, PLAIN = programs(both), programs(plain)
NAMES = pytest.mark.parametrize("name", OURS)


@NAMES
def test_nothing_but_jaxs_own_is_left(name):
    fn = OURS[name]
    jaxpr = jax.make_jaxpr(fn)(0.3)
    final = finalise_jaxpr(jaxpr)
    for ours in ("inner", "outer", "unvmap", "custom_jvp_call"):
        assert f" {ours} " not in str(final)
        assert f" {ours}[" not in str(final)
    expected = PLAIN[name](0.3)
    for run in (
        lambda x: jax.core.eval_jaxpr(final.jaxpr, final.consts, x)[0],
        jax.jit(lambda x: jax.core.eval_jaxpr(final.jaxpr, final.consts, x)[0]),
        lambda x: finalise_jaxpr_as_fn(jaxpr)(x)[0],
        lambda x: finalise_eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, x)[0],
        finalise_fn(fn),
        jax.jit(finalise_fn(fn)),
    ):
        np.testing.assert_allclose(run(0.3), expected, rtol=1e-5)


@NAMES
def test_doing_it_twice_is_doing_it_once(name):
    final = finalise_make_jaxpr(OURS[name])(0.3)
    assert finalise_jaxpr(final) is final
    assert str(finalise_jaxpr(jax.make_jaxpr(finalise_fn(OURS[name]))(0.3))) == str(final)


@pytest.mark.parametrize("name", [name for name in OURS if name not in ("while", "fori", "custom_jvp")])
def test_derivatives_pass_through_what_is_left(name):
    expected = jax.grad(PLAIN[name])(0.3)
    np.testing.assert_allclose(jax.grad(finalise_fn(OURS[name]))(0.3), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.grad(finalise_fn(OURS[name])))(0.3), expected, rtol=1e-4)


def test_the_primitives_of_the_package_are_replaced():
    def fn(x):
        x = nondifferentiable_backward(nontraceable(nonbatchable(x)))
        return jnp.where(unvmap_any(x > 0), noinline(jnp.sin)(x), jax.lax.stop_gradient(x))

    jaxpr = jax.make_jaxpr(fn)(1.0)
    final = finalise_jaxpr(jaxpr)
    for name in ("nondifferentiable", "nontraceable", "nonbatchable", "unvmap", "noinline", "stop_gradient"):
        assert name in str(jaxpr)
        assert name not in str(final)
    assert jax.core.eval_jaxpr(final.jaxpr, final.consts, 1.0) == [jnp.sin(1.0)]


def test_what_has_nothing_to_replace_is_left_alone():
    jaxpr = jax.make_jaxpr(jax.jit(lambda x: jax.lax.scan(lambda c, _: (c * 2, c), x, None, length=3)))(1.0)
    assert finalise_jaxpr(jaxpr) is jaxpr
    other = new("other", jnp.sin, registered=False)
    jaxpr = jax.make_jaxpr(lambda x: inner_p.bind(other.bind(x)))(1.0)
    assert " other " in str(finalise_jaxpr(jaxpr))


def test_the_implementation_is_looked_up_when_it_is_needed():
    p = new("late", jnp.sin)
    p.def_impl(jnp.cos)
    assert finalise_fn(p.bind)(0.0) == 1.0


def test_rules_of_ones_own_may_be_given():
    p = new("own", jnp.sin, registered=False)
    primitive_finalisations[p] = lambda x: 10 * x
    assert finalise_fn(p.bind)(2.0) == 20.0


def test_primitives_of_several_results_are_replaced():
    p = Primitive("several")
    p.multiple_results = True
    p.def_impl(lambda x, *, n: [x * i for i in range(n)])
    p.def_abstract_eval(lambda x, *, n: [x] * n)
    register_impl_finalisation(p)
    jaxpr = finalise_make_jaxpr(lambda x: p.bind(x, n=3)[1:])(2.0)
    assert "several" not in str(jaxpr)
    assert jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, 2.0) == [2.0, 4.0]


def test_functions_of_anything_are_finalised():
    final = finalise_fn(lambda model, x, n, flag=False: {"out": model["w"] * inner_p.bind(x) * n, "flag": flag})
    out = final({"w": jnp.array(2.0), "name": "a"}, jnp.array(0.5), 3, flag="yes")
    np.testing.assert_allclose(out["out"], 2 * jnp.sin(0.5) * 3 * 3, rtol=1e-6)
    assert out["flag"] == "yes"
    assert finalise_fn(functools.partial(lambda x, y: inner_p.bind(x) + y, y=1.0))(0.0) == 1.0


def test_jaxprs_are_made_as_by_jax():
    def fn(x, y):
        return {"a": inner_p.bind(x), "b": y}

    jaxpr, structs = finalise_make_jaxpr(fn, return_shape=True)(1.0, jnp.ones(2))
    assert "inner" not in str(jaxpr)
    expected = jax.make_jaxpr(fn, return_shape=True)(1.0, jnp.ones(2))[1]
    assert structs == expected
    assert finalise_make_jaxpr(fn)(1.0, jnp.ones(2)).out_avals == jaxpr.out_avals


def test_constants_and_closed_over_tracers_are_kept():
    big = jnp.arange(3.0)
    jaxpr = finalise_make_jaxpr(lambda x: inner_p.bind(x) + jnp.sum(big))(1.0)
    assert jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, 0.0) == [3.0]
    assert jax.jit(lambda y: finalise_fn(lambda x: inner_p.bind(x) * y)(0.5))(0.0) == 0.0
    assert jax.grad(lambda y: finalise_fn(lambda x: inner_p.bind(x) + y)(0.5))(0.0) == 1.0


def test_it_may_be_mapped_and_differentiated():
    xs = jnp.arange(3.0)
    np.testing.assert_allclose(jax.vmap(finalise_fn(both))(xs), plain(xs), rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.grad(finalise_fn(inner_p.bind)))(xs), 3 * jnp.cos(xs), rtol=1e-5)


def test_names_and_places_are_kept():
    def fn(x):
        with jax.named_scope("here"):
            return inner_p.bind(x) + jnp.cos(x)

    final = finalise_make_jaxpr(fn)(1.0)
    cos = next(eqn for eqn in final.eqns if eqn.primitive.name == "cos")
    assert "here" in str(cos.source_info.name_stack)
