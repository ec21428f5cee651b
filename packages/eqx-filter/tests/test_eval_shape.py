"""`filter_eval_shape` says what a function returns, and runs nothing."""

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_eval_shape
from eqx_filter.internal import cached_filter_eval_shape

BOTH = pytest.mark.parametrize("evaluate", [filter_eval_shape, cached_filter_eval_shape])


class Model(eqx_core.Module):
    weight: jax.Array
    bias: object
    activation: object
    size: int

    def __init__(self, size, bias=None, *, key):
        self.weight = jr.normal(key, (size, size))
        self.bias = bias
        self.activation = jnp.tanh
        self.size = size

    def __call__(self, x):
        return self.activation(self.weight @ x), self.size


def struct(*shape, dtype=None):
    return jax.ShapeDtypeStruct(shape, dtype or jnp.zeros(()).dtype)


def same(a, b):
    return (a.shape, a.dtype) == (b.shape, b.dtype) and isinstance(a, jax.ShapeDtypeStruct)


@BOTH
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8, jnp.bool_])
def test_it_agrees_with_what_is_computed(evaluate, dtype):
    def fun(x):
        return {"sum": x.sum(), "both": [x, x[None]]}

    x = jnp.ones((2, 3), dtype)
    out, expected = evaluate(fun, x), fun(x)
    assert jtu.tree_structure(out) == jtu.tree_structure(expected)
    assert all(map(same, jtu.tree_leaves(out), jtu.tree_leaves(expected)))


@BOTH
def test_structs_stand_for_arrays(evaluate):
    for x in (jnp.ones((2, 3)), np.ones((2, 3), struct().dtype), struct(2, 3)):
        assert same(evaluate(lambda x: x.T, x), struct(3, 2))


@BOTH
def test_a_model_is_built_from_a_struct_of_a_key(evaluate):
    for key in (jr.key(0), jr.PRNGKey(0), struct(dtype=jr.key(0).dtype), struct(2, dtype=jnp.uint32)):
        model = evaluate(Model, 3, key=key)
        assert isinstance(model, Model)
        assert same(model.weight, struct(3, 3))
        assert (model.bias, model.activation, model.size) == (None, jnp.tanh, 3)


@BOTH
def test_a_model_of_structs_can_be_called(evaluate):
    model = evaluate(Model, 3, key=jr.key(0))
    out, size = evaluate(model, struct(3))
    assert same(out, struct(3))
    assert size == 3


@BOTH
def test_what_is_no_array_stays(evaluate):
    own = struct(7)
    out = evaluate(lambda *args: (*args, own), 1, 1.0, "text", None, len)
    assert out == (1, 1.0, "text", None, len, own)


@BOTH
def test_nothing_is_computed(evaluate):
    huge = struct(10**9, 10**3)
    assert same(evaluate(lambda x: x + 1, huge), huge)


@BOTH
def test_it_works_within_other_transformations(evaluate):
    shapes = []

    def fun(x):
        shapes.append(evaluate(jnp.outer, x, x).shape)
        return x.sum()

    jax.jit(jax.grad(fun))(jnp.ones(2))
    jax.vmap(fun)(jnp.ones((4, 3)))
    assert shapes == [(2, 2), (3, 3)]


@BOTH
def test_arguments_by_name_are_arguments(evaluate):
    assert same(evaluate(lambda *, x, n: x[:n], x=struct(5), n=2), struct(2))


@BOTH
def test_weak_types_are_seen(evaluate):
    assert evaluate(lambda x: x + jnp.ones((), jnp.bfloat16), jnp.asarray(1.0)).dtype == jnp.bfloat16


def test_the_cached_form_traces_once_for_each_form_of_the_arguments():
    traces = []

    def fun(x, n):
        traces.append((x.shape, n))
        return [x, {"n": n}]

    for x in (jnp.zeros(2), jnp.ones(2), np.ones(2, struct().dtype)):
        cached_filter_eval_shape(fun, x, 1)
    assert traces == [((2,), 1)]
    outs = [cached_filter_eval_shape(fun, jnp.ones(2), n) for n in (1, 1.0, True, 0.0, -0.0)]
    assert len(traces) == 5
    assert [type(out[1]["n"]) for out in outs] == [int, float, bool, float, float]
    cached_filter_eval_shape(fun, jnp.ones(3), 1)
    assert len(traces) == 6


def test_the_cached_form_hands_out_containers_of_its_own():
    def fun(x):
        return [x, {}]

    first = cached_filter_eval_shape(fun, struct(2))
    first[1]["spoilt"] = True
    first.append(None)
    assert cached_filter_eval_shape(fun, struct(2))[1:] == [{}]


def test_the_cached_form_forgets_on_request():
    traces = []

    def fun(x):
        traces.append(None)
        return x

    cached_filter_eval_shape(fun, struct(2))
    eqx_core.clear_caches()
    cached_filter_eval_shape(fun, struct(2))
    assert len(traces) == 2


def test_the_cached_form_knows_the_width_of_numbers():
    def fun():
        return jnp.arange(3.0)

    widths = [cached_filter_eval_shape(fun).dtype]
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        widths.append(cached_filter_eval_shape(fun).dtype)
    assert len(set(widths)) == (1 if jax.config.jax_enable_x64 else 2)


def test_the_cached_form_takes_what_has_no_hash():
    out = cached_filter_eval_shape(lambda x, s: (x, s), struct(2), {1, 2})
    assert out[1] == {1, 2}


def test_what_the_function_raises_comes_through():
    def fun(x):
        raise KeyError("mine")

    for evaluate in (filter_eval_shape, cached_filter_eval_shape, cached_filter_eval_shape):
        with pytest.raises(KeyError, match="mine"):
            evaluate(fun, struct(2))


def test_it_evaluates_the_other_transformations():
    assert same(filter_eval_shape(eqx_filter.filter_vmap(jnp.sum), jnp.ones((3, 2))), struct(3))
    assert same(filter_eval_shape(eqx_filter.filter_grad(jnp.sum), jnp.ones((3, 2))), struct(3, 2))
    assert same(filter_eval_shape(eqx_filter.filter_jit(jnp.sum), jnp.ones((3, 2))), struct())
