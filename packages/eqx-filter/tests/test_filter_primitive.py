import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

import eqx_core
import eqx_filter
from eqx_filter.internal import (
    filter_primitive_batching,
    filter_primitive_bind,
    filter_primitive_def,
    filter_primitive_jvp,
    filter_primitive_transpose,
    materialise_zeros,
)


class Linear(eqx_core.Module):
    weight: jax.Array
    name: str = "linear"
    size: int = eqx_core.field(static=True, default=2)


def primitive(impl, abstract_eval, jvp=None, transpose=None, batch=None, materialise=False):
    p = Primitive("thing")
    p.multiple_results = True
    p.def_impl(filter_primitive_def(impl))
    p.def_abstract_eval(filter_primitive_def(abstract_eval))
    mlir.register_lowering(p, mlir.lower_fun(filter_primitive_def(impl), multiple_results=True))
    if jvp is not None:
        ad.primitive_jvps[p] = filter_primitive_jvp(jvp)
    if transpose is not None:
        ad.primitive_transposes[p] = filter_primitive_transpose(transpose, materialise_zeros=materialise)
    if batch is not None:
        batching.primitive_batchers[p] = filter_primitive_batching(batch)
    return p


# The example: the product of a Module's weight and an array, with its name and a function passed along.
def impl(model, x, fn):
    return {"out": model.weight * x, "name": model.name, "fn": fn, "none": None}


def abstract_eval(model, x, fn):
    assert isinstance(x, jax.core.ShapedArray)
    return {"out": x, "name": model.name, "fn": fn, "none": None}


def jvp(primals, tangents):
    (model, x, fn), (model_tangent, x_tangent, fn_tangent) = primals, tangents
    assert fn_tangent is None
    assert isinstance(model_tangent, Linear)
    assert model_tangent.name is None
    weight_tangent = materialise_zeros(model.weight, model_tangent.weight)
    x_tangent = materialise_zeros(x, x_tangent)
    first = filter_primitive_bind(thing_p, model, x_tangent, fn)["out"]
    second = filter_primitive_bind(thing_p, eqx_core.tree_at(lambda m: m.weight, model, weight_tangent), x, fn)["out"]
    tangent = {"out": first + second, "name": None, "fn": None, "none": None}
    return filter_primitive_bind(thing_p, *primals), tangent


def transpose(inputs, cotangents):
    (model, x, _), cotangent = inputs, cotangents["out"]
    assert cotangents == {"out": cotangent, "name": None, "fn": None, "none": None}
    if isinstance(x, ad.UndefinedPrimal):
        return None, cotangent * model.weight, None
    assert isinstance(model.weight, ad.UndefinedPrimal)
    assert model.weight.aval.shape == x.shape
    assert model.name == "linear"
    return Linear(cotangent * x, None), None, None


def batch(inputs, axes):
    (model, x, fn), (model_axis, x_axis, fn_axis) = inputs, axes
    assert fn_axis is None
    assert model_axis.name is None
    weight = model.weight if model_axis.weight is None else jnp.moveaxis(model.weight, model_axis.weight, 0)
    x = x if x_axis is None else jnp.moveaxis(x, x_axis, 0)
    size = max(weight.ndim, x.ndim)
    weight, x = (jnp.broadcast_to(y, y.shape) if y.ndim == size else y[None] for y in (weight, x))
    weight, x = jnp.broadcast_arrays(weight, x)
    out = filter_primitive_bind(thing_p, eqx_core.tree_at(lambda m: m.weight, model, weight), x, fn)
    return out, {"out": 0, "name": None, "fn": None, "none": None}


thing_p = primitive(impl, abstract_eval, jvp, transpose, batch)
X, W = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])
JITS = pytest.mark.parametrize("jit", [lambda f: f, jax.jit, eqx_filter.filter_jit])


def thing(weight, x):
    return filter_primitive_bind(thing_p, Linear(weight), x, jnp.sin)["out"]


@JITS
def test_arguments_and_results_may_be_anything(jit):
    seen = []

    def call(weight, x):
        out = filter_primitive_bind(thing_p, Linear(weight), x, jnp.sin)
        seen.append({name: value for name, value in out.items() if name != "out"})
        return out["out"]

    assert jit(call)(W, X).tolist() == [3.0, 8.0]
    assert seen == [{"name": "linear", "fn": jnp.sin, "none": None}]


@JITS
@pytest.mark.parametrize(
    "transform",
    {
        "jvp": lambda f: lambda w, x: jax.jvp(f, (w, x), (x, w)),
        "jvp in x": lambda f: lambda w, x: jax.jvp(lambda x: f(w, x), (x,), (w,)),
        "grad": lambda f: jax.grad(lambda w, x: jnp.sum(f(w, x) ** 2), (0, 1)),
        "second": lambda f: jax.hessian(lambda w, x: jnp.sum(f(w, x) ** 2), (0, 1)),
        "transpose": lambda f: lambda w, x: jax.linear_transpose(lambda w: f(w, x), w)(w),
        "vmap": lambda f: lambda w, x: jax.vmap(f, (0, None))(jnp.stack([w, 2 * w, 3 * w]), x),
        "vmap 1": lambda f: lambda w, x: jax.vmap(f, (1, 0))(jnp.stack([w, 2 * w, 3 * w], 1), jnp.stack([x, x, w])),
        "vmap grad": lambda f: (
            lambda w, x: jax.vmap(jax.grad(lambda w, x: jnp.sum(f(w, x))), (None, 0))(w, jnp.stack([x, w]))
        ),
        "scan": lambda f: lambda w, x: jax.lax.scan(lambda c, _: (f(w, c), c), x, None, length=3),
        "grad scan": lambda f: jax.grad(
            lambda w, x: jnp.sum(jax.lax.scan(lambda c, _: (f(w, c), c), x, None, length=3)[0])
        ),
        "remat": lambda f: jax.grad(lambda w, x: jnp.sum(jax.checkpoint(f)(w, x) ** 2), (0, 1)),
        "cond": lambda f: lambda w, x: jax.lax.cond(jnp.sum(x) > 0, f, lambda w, x: x, w, x),
    }.items(),
    ids=lambda item: item[0],
)
def test_it_is_the_function_that_its_rules_describe(jit, transform):
    transform = transform[1]
    expected = transform(lambda w, x: w * x)(W, X)
    jax.tree.map(np.testing.assert_allclose, jit(transform(thing))(W, X), expected)


def test_shapes_are_known_without_running():
    assert jax.eval_shape(thing, W, X).shape == (2,)
    out = eqx_filter.filter_eval_shape(filter_primitive_bind, thing_p, Linear(W), X, jnp.sin)
    assert out == {"out": jax.ShapeDtypeStruct((2,), jnp.float32), "name": "linear", "fn": jnp.sin, "none": None}


def test_the_parameters_hold_all_that_is_no_array():
    inner = jax.make_jaxpr(jnp.sin)(1.0).jaxpr
    p = primitive(lambda x, program: x, lambda x, program: x)
    eqn = jax.make_jaxpr(lambda x: filter_primitive_bind(p, x, inner))(X).eqns[0]
    assert isinstance(eqn.params["static"], tuple)
    assert eqn.params["static"][1] is inner
    assert len(eqn.invars) == 1


def test_leaves_without_a_hash_are_passed_on():
    p = primitive(lambda x, extra: (x, extra), lambda x, extra: (x, extra))
    extra = {1, 2}
    out = []
    jax.jit(lambda x: out.append(filter_primitive_bind(p, x, extra)) or x)(X)
    assert out[0][1] is extra


def test_values_that_are_equal_but_of_other_types_are_kept_apart():
    p = primitive(lambda x, extra: (x, extra), lambda x, extra: (x, extra))
    out = []
    for extra in (1, True, 1.0):
        jax.jit(lambda x, extra=extra: out.append(filter_primitive_bind(p, x, extra)[1]) or x)(X)
    assert [type(x) for x in out] == [int, bool, float]


def test_keys_numpy_arrays_and_no_arrays_are_operands():
    p = primitive(lambda *args: args, lambda *args: args)
    out = jax.jit(lambda: filter_primitive_bind(p, np.ones(2), jr.key(0), np.float32(1))[:3])()
    assert out[1].dtype == jr.key(0).dtype
    assert out[0].tolist() == [1.0, 1.0]
    assert filter_primitive_bind(p, "a", None) == ("a", None)
    assert filter_primitive_bind(p) == ()


def test_what_has_no_tangent_is_none():
    seen = []

    def rule(primals, tangents):
        seen.append(tangents)
        return primals, (None, None, {"a": None}, None)

    p = primitive(lambda *args: args, lambda *args: args, rule)
    args = (X, jnp.arange(2), {"a": X}, "s")
    out = jax.jvp(lambda x: filter_primitive_bind(p, x, *args[1:])[0], (X,), (W,))
    assert seen[0][0] is W
    assert seen[0][1:] == (None, {"a": None}, None)
    assert out[1].tolist() == [0.0, 0.0]
    integers = jax.jvp(
        lambda x, n: filter_primitive_bind(p, x, n, *args[2:])[1], (X, args[1]), (W, np.zeros(2, jax.dtypes.float0))
    )
    assert seen[1][1] is None
    assert integers[1].dtype == jax.dtypes.float0


def test_none_may_stand_for_the_tangent_of_a_whole_subtree():
    p = primitive(lambda x: {"a": [x, x]}, lambda x: {"a": [x, x]}, lambda p, t: ({"a": [p[0], p[0]]}, {"a": None}))
    assert jax.jvp(lambda x: filter_primitive_bind(p, x)["a"][1], (X,), (W,))[1].tolist() == [0.0, 0.0]
    q = primitive(lambda x: (x["a"], x["b"]), lambda x: (x["a"], x["b"]), transpose=lambda inputs, cts: (None,))
    out = jax.linear_transpose(lambda a, b: filter_primitive_bind(q, {"a": a, "b": b})[0], X, W)(X)
    assert [x.tolist() for x in out] == [[0.0, 0.0], [0.0, 0.0]]


def test_cotangents_of_zero_are_none_or_arrays():
    def make(materialise):
        seen = []

        def rule(inputs, cotangents):
            seen.append(cotangents)
            return (cotangents[0],)

        outs = lambda x: (x, x, "s")  # noqa: E731
        p = primitive(outs, outs, transpose=rule, materialise=materialise)
        jax.linear_transpose(lambda x: filter_primitive_bind(p, x)[0], X)(W)
        return seen[0]

    assert make(False)[1:] == (None, None)
    zero = make(True)
    assert zero[1].tolist() == [0.0, 0.0]
    assert zero[2] is None


def test_the_decorator_of_transpose_rules_takes_options():
    rule = filter_primitive_transpose(materialise_zeros=True)(lambda inputs, cotangents: (None,))
    assert callable(rule)


def test_a_primitive_of_one_result_is_refused():
    with pytest.raises(
        ValueError, match=r"^`filter_primitive_bind\(prim=\.\.\.\)` must be a primitive of multiple resu"
    ):
        filter_primitive_bind(Primitive("single"), X)


def test_a_rule_that_is_not_wrapped_is_found_out():
    p = Primitive("plain")
    p.multiple_results = True
    p.def_impl(lambda x, **_: [x])
    with pytest.raises(
        RuntimeError, match=r"must be a primitive whose rules are made by .* got `plain`, of which anoth"
    ):
        filter_primitive_bind(p, X)


@pytest.mark.parametrize(
    "other",
    [
        lambda x: {"out": x},
        lambda x: {"out": x, "name": "other"},
        lambda x: {"out": x, "name": jax.ShapeDtypeStruct((), "f4")},
    ],
)
def test_rules_that_return_different_structures_are_found_out(other):
    p = primitive(lambda x: {"out": x, "name": "one"}, other)
    with pytest.raises(RuntimeError, match="rules of the primitive `thing` must return the same structure"):
        jax.jit(lambda x: filter_primitive_bind(p, x)["out"])(X)


def test_functions_made_anew_by_each_rule_are_no_difference():
    p = primitive(lambda x: (x, lambda: 1), lambda x: (x, lambda: 2))
    assert jax.jit(lambda x: filter_primitive_bind(p, x)[0])(X).tolist() == X.tolist()


def test_tangents_where_none_can_be_are_refused():
    p = primitive(lambda x: (x, "s"), lambda x: (x, "s"), lambda p, t: ((p[0], "s"), (t[0], t[0])))
    with pytest.raises(
        TypeError, match=r"^`filter_primitive_jvp\(rule\)\(\.\.\.\)\[1\]` must have None in the place of"
    ):
        jax.jvp(lambda x: filter_primitive_bind(p, x)[0], (X,), (W,))
    q = primitive(lambda x: (x, "s"), lambda x: (x, "s"), lambda p, t: ((p[0], "s"), t))
    with pytest.raises(ValueError, match=r"^`filter_primitive_jvp\(rule\)\(\.\.\.\)\[1\]` must have the structure of"):
        jax.jvp(lambda x: filter_primitive_bind(q, x)[0], (X,), (W,))


@pytest.mark.parametrize(
    ("rule", "error", "match"),
    [
        (lambda i, c: [c[0]], TypeError, "must return a tuple of one cotangent for each argument; got `list`"),
        (lambda i, c: (c[0], None), ValueError, r"`filter_primitive_transpose\(rule\)\(...\)` must have the structure"),
        (lambda i, c: ({"a": c[0], "b": c[0]},), TypeError, "must have None in the place of whatever is no array"),
    ],
)
def test_cotangents_must_be_like_the_arguments(rule, error, match):
    p = primitive(lambda x: (x["a"],), lambda x: (x["a"],), transpose=rule)
    with pytest.raises(error, match=match):
        jax.linear_transpose(lambda x: filter_primitive_bind(p, {"a": x, "b": "s"})[0], X)(W)


def test_zeros_are_like_the_primal():
    for primal in (X, X.astype(jnp.bfloat16), 1.0, np.ones((2, 1)), jnp.ones(2, jnp.complex64)):
        zeros = materialise_zeros(primal, None)
        assert (zeros.shape, zeros.dtype) == (jnp.shape(primal), jnp.result_type(primal))
        assert not zeros.any()
    for primal in (1, True, jnp.arange(3), jr.split(jr.key(0))):
        zeros = materialise_zeros(primal, None)
        assert (zeros.shape, zeros.dtype) == (jnp.shape(primal), jax.dtypes.float0)
    struct = jax.ShapeDtypeStruct((2,), jnp.float32)
    assert materialise_zeros(struct, None) is None
    assert materialise_zeros(struct, None, allow_struct=True).tolist() == [0.0, 0.0]
    assert materialise_zeros("s", None) is None
    assert materialise_zeros(None, None) is None
    assert materialise_zeros(X, W) is W
    assert jax.jit(lambda x: materialise_zeros(x, None))(X).tolist() == [0.0, 0.0]
