"""`filter_switch` against `jax.lax.switch` on arrays, and by hand on lists of layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_switch


class Layer(eqx_core.Module):
    weight: jax.Array  # f32[3]
    activation: object

    def __call__(self, x):
        return self.activation(self.weight * x)

    def call(self, x):
        return self(x)


X = jnp.array([1.0, -2.0, 3.0])
LAYERS = [Layer(jnp.full(3, 1.0 + i), act) for i, act in enumerate([jnp.sin, jnp.tanh, jnp.cos])]
TRANSFORMS = pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])


@TRANSFORMS
@pytest.mark.parametrize("index", [-1, 0, 2, 7, np.int8(1), jnp.uint8(2)])
def test_on_arrays_it_is_that_of_jax(index, transform):
    branches = [lambda x: (x, x + 1), lambda x: (x * 2, x), lambda x: (-x, x)]
    ours, theirs = (transform(lambda i, x, f=f: f(i, branches, x))(index, X) for f in (filter_switch, jax.lax.switch))
    assert jax.tree.map(lambda x: x.tolist(), ours) == jax.tree.map(lambda x: x.tolist(), theirs)


@TRANSFORMS
def test_a_list_of_layers_is_differentiated(transform):
    @transform
    def grads(layers, i):
        return eqx_filter.filter_grad(lambda layers: filter_switch(i, layers, X).sum())(layers)

    for i in range(3):
        by_hand = jax.grad(lambda w, i=i: LAYERS[i].activation(w * X).sum())(LAYERS[i].weight)
        out = grads(LAYERS, jnp.asarray(i))
        np.testing.assert_allclose(out[i].weight, by_hand, rtol=1e-4)
        assert [out[j].weight.tolist() for j in range(3) if j != i] == [[0.0] * 3] * 2
        assert out[i].activation is None


@pytest.mark.parametrize("make", [lambda m: m.call, lambda m: eqx_core.Partial(Layer.call, m), lambda m: m.__call__])
def test_the_branches_may_be_any_callables(make):
    for i, layer in enumerate(LAYERS):
        np.testing.assert_allclose(filter_switch(i, map(make, LAYERS), X), layer(X), rtol=1e-6)


def test_one_branch_is_called():
    np.testing.assert_allclose(filter_switch(3, LAYERS[:1], X), LAYERS[0](X), rtol=1e-6)


def test_it_is_mapped_by_vmap():
    out = jax.vmap(lambda i, x: filter_switch(i, LAYERS, x))(jnp.arange(3), jnp.stack([X] * 3))
    np.testing.assert_allclose(out, jnp.stack([layer(X) for layer in LAYERS]), rtol=1e-6)


def test_a_module_may_be_an_operand_and_a_result():
    scale = [lambda m, i=i: eqx_core.tree_at(lambda m: m.weight, m, m.weight * i) for i in (1.0, 2.0)]
    out = eqx_filter.filter_jit(lambda i, m: filter_switch(i, scale, m))(jnp.asarray(1), LAYERS[0])
    assert (out.weight.tolist(), out.activation) == ([2.0] * 3, jnp.sin)


def test_a_number_stands_for_an_array_if_any_other_has_one():
    out = filter_switch(1, [lambda: (0, "a"), lambda: (1, "a"), lambda: (jnp.int32(2), "a")])
    assert (int(out[0]), out[0].dtype, out[1]) == (1, "int32", "a")


def test_disabling_jit_changes_nothing():
    with jax.disable_jit():
        np.testing.assert_allclose(filter_switch(1, LAYERS, X), LAYERS[1](X), rtol=1e-6)


@TRANSFORMS
def test_a_difference_names_the_branches_and_the_path(transform):
    branches = [lambda x: {"y": x, "unit": "m"}, lambda x: {"y": 2 * x, "unit": "m"}]
    with pytest.raises(TypeError) as caught:
        transform(lambda x: filter_switch(0, [*branches, lambda x: {"y": x, "unit": "ft"}], x)["y"])(X)
    assert str(caught.value) == (
        "`filter_switch(branches=...)` must all return the same structure, shapes, dtypes and static values; got, from "
        "`branches[0]` to `branches[2]`:\n  out['unit']: static value 'm' became 'ft'\n"
        "Return what is no array as it was, or make it an array."
    )
    with pytest.raises(
        TypeError, match=r"from `branches\[0\]` to `branches\[1\]`:\n  out: shape f32\[3\] became f32\[\]"
    ):
        transform(lambda x: filter_switch(0, [lambda x: x, lambda x: x.sum()], x))(X)


def test_there_must_be_a_branch():
    with pytest.raises(ValueError, match=r"`filter_switch\(branches=...\)` must hold at least one function; got none"):
        filter_switch(0, [])


@pytest.mark.parametrize("index", [1.0, True, "1", None, jnp.arange(2)])
def test_the_index_must_be_a_scalar_integer(index):
    with pytest.raises(TypeError, match=r"`filter_switch\(index=...\)` must be an int or a scalar array of integers"):
        filter_switch(index, LAYERS, X)
