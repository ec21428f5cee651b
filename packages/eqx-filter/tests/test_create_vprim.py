import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.interpreters import ad

from eqx_filter.internal import (
    create_vprim,
    filter_primitive_bind,
    filter_primitive_def,
    filter_primitive_jvp,
    filter_primitive_transpose,
    finalise_jaxpr,
    materialise_zeros,
    nontraceable,
    register_impl_finalisation,
)

CALLS = []


# The example is the solution of a linear system: linear in the vector, not so in the matrix.
def impl(matrix, vector, name):
    CALLS.append("impl")
    assert matrix.ndim == 2
    return {"x": jnp.linalg.solve(matrix, vector), "name": name, "rank": jnp.array(2)}


def abstract_eval(matrix, vector, name):
    assert matrix.ndim == 2
    return {"x": vector, "name": name, "rank": jax.core.ShapedArray((), jnp.int32)}


def jvp(primals, tangents):
    (matrix, vector, name), (matrix_tangent, vector_tangent, _) = primals, tangents
    out = filter_primitive_bind(solve_p, *primals)
    none = {"x": None, "name": None, "rank": None}
    if matrix_tangent is None and vector_tangent is None:
        return out, none
    rhs = materialise_zeros(vector, vector_tangent)
    if matrix_tangent is not None:
        rhs -= matrix_tangent @ out["x"]
    return out, none | {"x": filter_primitive_bind(solve_p, matrix, rhs, name)["x"]}


def transpose(inputs, cotangents):
    matrix, vector, name = inputs
    assert not isinstance(matrix, ad.UndefinedPrimal)
    assert vector.aval.shape == (matrix.shape[0],)
    assert cotangents["rank"] is None
    if cotangents["x"] is None:
        return None, None, None
    return None, filter_primitive_bind(solve_p, matrix.T, cotangents["x"], name)["x"], None


solve_p = create_vprim(
    "solve",
    filter_primitive_def(impl),
    filter_primitive_def(abstract_eval),
    filter_primitive_jvp(jvp),
    filter_primitive_transpose(transpose),
)

A = jnp.array([[3.0, 1.0], [-1.0, 2.0]])
B = jnp.array([1.0, 2.0])
AS = jnp.stack([A, 2 * A + 1, A.T])
BS = jnp.stack([B, B + 1, -B])


def solve(matrix, vector):
    return filter_primitive_bind(solve_p, matrix, vector, "name")["x"]


def oracle(matrix, vector):
    return jnp.linalg.solve(matrix, vector)


def vmapped(f, axes, **kwargs):
    return jax.vmap(f, axes, **kwargs)


DERIVED = {
    "value": lambda f: f,
    "jvp": lambda f: lambda a, b: jax.jvp(f, (a, b), (jnp.cos(a), jnp.sin(b))),
    "jvp in a": lambda f: lambda a, b: jax.jvp(lambda a: f(a, b), (a,), (jnp.cos(a),)),
    "grad": lambda f: jax.grad(lambda a, b: jnp.sum(jnp.sin(f(a, b))), (0, 1)),
    "transpose": lambda f: lambda a, b: jax.linear_transpose(lambda b: f(a, b), b)(jnp.cos(b)),
    "forward over reverse": lambda f: jax.jacfwd(jax.grad(lambda a, b: jnp.sum(jnp.sin(f(a, b)))), 1),
    "reverse over forward": lambda f: jax.grad(
        lambda a, b: jnp.sum(jax.jvp(lambda b: jnp.sin(f(a, b)), (b,), (jnp.cos(b),))[1])
    ),
    "linearize": lambda f: lambda a, b: jax.linearize(lambda b: f(a, b), b)[1](b),
    "scan": lambda f: lambda a, b: jax.lax.scan(lambda c, _: (f(a, c), c), b, None, length=2)[0],
    "grad of scan": lambda f: jax.grad(
        lambda a, b: jnp.sum(jax.lax.scan(lambda c, _: (f(a, c), c), b, None, length=2)[0]), 1
    ),
    "remat": lambda f: jax.grad(lambda a, b: jnp.sum(jax.checkpoint(f)(a, b) ** 2)),
}
MAPPED = {
    "once": (lambda f: f, (A, B)),
    "both": (lambda f: vmapped(f, 0), (AS, BS)),
    "matrix": (lambda f: vmapped(f, (0, None)), (AS, B)),
    "vector": (lambda f: vmapped(f, (None, 1)), (A, BS.T)),
    "last axis": (lambda f: vmapped(f, (2, 0), out_axes=-1), (jnp.moveaxis(AS, 0, 2), BS)),
    "two": (lambda f: vmapped(vmapped(f, (None, 0)), (0, None)), (AS, BS)),
    "named": (lambda f: vmapped(f, (0, None), axis_name="i"), (AS, B)),
}


@pytest.mark.parametrize("derived", DERIVED)
@pytest.mark.parametrize("mapped", MAPPED)
def test_each_transformation_of_each_map_is_that_of_the_function(derived, mapped):
    batch, args = MAPPED[mapped]
    ours, theirs = (jax.jit(batch(DERIVED[derived](f)))(*args) for f in (solve, oracle))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("derived", ["value", "jvp", "grad", "transpose"])
@pytest.mark.parametrize("mapped", ["once", "two"])
def test_so_it_is_outside_of_programs(derived, mapped):
    batch, args = MAPPED[mapped]
    ours, theirs = (batch(DERIVED[derived](f))(*args) for f in (solve, oracle))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5), ours, theirs)


@pytest.mark.parametrize("mapped", ["both", "matrix", "vector", "two", "named"])
@pytest.mark.parametrize("what", ["grad", "jvp", "transpose"])
def test_each_map_may_be_inside_of_a_transformation(mapped, what):
    batch, args = MAPPED[mapped]

    def derived(f):
        f = batch(f)
        if what == "transpose":
            return lambda a, b: jax.linear_transpose(lambda b: f(a, b), b)(jnp.ones_like(f(a, b)))
        if what == "jvp":
            return lambda a, b: jax.jvp(f, (a, b), (jnp.cos(a), jnp.sin(b)))
        return jax.grad(lambda a, b: jnp.sum(jnp.sin(f(a, b))), (0, 1))

    ours, theirs = (jax.jit(derived(f))(*args) for f in (solve, oracle))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-5), ours, theirs)


def test_one_equation_stands_for_all_maps():
    batch, args = MAPPED["two"]
    jaxpr = jax.make_jaxpr(batch(solve))(*args)
    (eqn,) = jaxpr.eqns
    assert eqn.primitive.name == "vprim"
    assert eqn.params["mapped_primitive"] is solve_p
    assert [level.axis.size for level in eqn.params["levels"]] == [3, 3]
    assert [level.places for level in eqn.params["levels"]] == [(None, 0), (0, None)]
    (plain,) = jax.make_jaxpr(solve)(A, B).eqns
    assert plain.primitive is solve_p


def test_static_results_and_shapes_pass():
    batch, args = MAPPED["two"]
    static = []

    def call(a, b):
        out = filter_primitive_bind(solve_p, a, b, "name")
        static.append(out["name"])
        return out["x"], out["rank"]

    x, rank = jax.eval_shape(batch(call), *args)
    assert (x.shape, rank.shape, rank.dtype) == ((3, 3, 2), (3, 3), jnp.int32)
    assert static == ["name"]


def test_what_is_not_mapped_over_stays_so():
    CALLS.clear()
    out = jax.vmap(lambda y: solve(A, B) + 0 * y)(BS)
    assert out.shape == (3, 2)
    assert CALLS == ["impl"]
    jaxpr = jax.make_jaxpr(jax.vmap(lambda y: solve(A, B), out_axes=None))(BS)
    assert "vprim" not in str(jaxpr)


def test_rules_may_use_the_axis():
    def total(x):
        return [jax.lax.psum(x, "i")]

    total_p = create_vprim(
        "total",
        total,
        lambda x: [jax.core.ShapedArray(s.shape, s.dtype) for s in jax.eval_shape(total, x)],
        lambda primals, tangents: (total_p.bind(*primals), total_p.bind(*tangents)),
        lambda cotangents, x: total_p.bind(*cotangents),
    )
    for jit in (lambda f: f, jax.jit):
        mapped = jit(jax.vmap(lambda x: total_p.bind(x)[0], axis_name="i"))
        assert mapped(jnp.arange(3.0)).tolist() == [3.0, 3.0, 3.0]
        nested = jit(jax.vmap(jax.vmap(lambda x: total_p.bind(x)[0]), axis_name="i"))
        np.testing.assert_array_equal(nested(jnp.ones((2, 3))), np.full((2, 3), 2.0))
        constant = jit(jax.vmap(lambda x: total_p.bind(jnp.ones(()))[0], axis_name="i"))
        assert constant(jnp.arange(3.0)).tolist() == [3.0, 3.0, 3.0]


def test_symbolic_zeros_stay_so_under_a_map():
    seen = []

    def rule(primals, tangents):
        seen.append([tangent is None for tangent in tangents])
        return (primals[0] + primals[1], "s"), (materialise_zeros(primals[0], tangents[0]), None)

    p = create_vprim(
        "p",
        filter_primitive_def(lambda x, y: (x + y, "s")),
        filter_primitive_def(lambda x, y: (x, "s")),
        filter_primitive_jvp(rule),
        filter_primitive_transpose(lambda inputs, cts: (None, None)),
    )
    call = lambda x, y: filter_primitive_bind(p, x, y)[0]  # noqa: E731
    jax.jvp(lambda x: jax.vmap(call)(x, B), (B,), (B,))
    jax.vmap(lambda x, y: jax.jvp(lambda y: call(x, y), (y,), (y,)))(B, B)
    assert seen == [[False, True], [True, False]]


def test_transposing_sums_over_what_is_not_mapped():
    def ours(b):
        return jax.vmap(solve, (0, None))(AS, b)

    def theirs(b):
        return jax.vmap(oracle, (0, None))(AS, b)

    cotangent = jnp.cos(BS)
    expected = jax.linear_transpose(theirs, B)(cotangent)
    np.testing.assert_allclose(jax.linear_transpose(ours, B)(cotangent), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.linear_transpose(ours, B))(cotangent), expected, rtol=1e-4)


def test_keys_and_integers_may_be_mapped():
    p = create_vprim(
        "draw",
        lambda key, n: [jr.normal(key), n + 1, jr.fold_in(key, 1)],
        lambda key, n: [jax.core.ShapedArray((), jnp.float32), n, key],
        lambda primals, tangents: (
            p.bind(*primals),
            [ad.Zero(jax.typeof(x).to_tangent_aval()) for x in p.bind(*primals)],
        ),
        lambda cotangents, *_: [None, None],
    )
    keys, numbers = jr.split(jr.key(0), 3), jnp.arange(3)
    for jit in (lambda f: f, jax.jit):
        x, n, folded = jit(jax.vmap(lambda k, n: p.bind(k, n)))(keys, numbers)
        np.testing.assert_array_equal(x, jax.vmap(jr.normal)(keys))
        assert n.tolist() == [1, 2, 3]
        assert folded.dtype == keys.dtype


def test_impl_may_be_defined_anew():
    p = create_vprim("p", lambda x: [x], lambda x: [x], lambda p, t: (p, t), lambda c, x: c)
    p.def_impl(lambda x: [nontraceable(x + 1)])
    assert p.bind(1.0) == [2.0]
    assert jax.jit(lambda x: p.bind(x)[0])(1.0) == 1.0
    assert jax.vmap(lambda x: p.bind(x)[0])(B).tolist() == B.tolist()
    assert jax.jit(jax.vmap(lambda x: p.bind(x)[0]))(B).tolist() == B.tolist()


@pytest.mark.parametrize("mapped", ["once", "two", "named"])
@pytest.mark.parametrize("derived", ["value", "grad"])
def test_it_is_finalised_with_its_maps(mapped, derived):
    p = create_vprim(
        "q",
        lambda x: [jnp.sin(x)],
        lambda x: [x],
        lambda primals, tangents: (p.bind(*primals), [jnp.cos(primals[0]) * tangents[0]]),
        lambda cotangents, x: cotangents,
    )
    batch, args = MAPPED[mapped]
    f = lambda a, b: jnp.sum(p.bind(a @ b)[0])  # noqa: E731
    jaxpr = jax.make_jaxpr(batch(DERIVED[derived](f)))(*args)
    assert finalise_jaxpr(jaxpr).eqns[-1].primitive is jaxpr.eqns[-1].primitive
    # What is not registered stays.
    assert ("vprim" in str(finalise_jaxpr(jaxpr))) == ("vprim" in str(jaxpr))
    p.def_impl(lambda x: [nontraceable(jnp.sin(x))])
    register_impl_finalisation(p)
    final = finalise_jaxpr(jaxpr)
    assert all(name not in str(final) for name in (" q ", "q[", "vprim", "nontraceable"))
    expected = jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *args)
    out = jax.core.eval_jaxpr(final.jaxpr, final.consts, *args)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), out, expected)
