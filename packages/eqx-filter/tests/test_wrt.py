"""`wrt=` of `filter_grad`: a filter specification or a selector, and never silently something else."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
from eqx_filter import filter_grad, filter_jit, filter_value_and_grad, filter_vmap, is_array, is_inexact_array


class Linear(eqx_core.Module):
    weight: jax.Array  # f32[2]
    bias: jax.Array  # f32[2]


class Model(eqx_core.Module):
    layers: list[Linear]
    scale: float
    activation: object
    count: jax.Array  # i32[]
    name: str = "model"

    def __call__(self, x):
        for layer in self.layers:
            x = self.activation(layer.weight * x + layer.bias)
        return x * self.scale


def model():
    layers = [Linear(jnp.array([1.0, 2.0]) * i, jnp.array([0.5, -0.5])) for i in (1, 2)]
    return Model(layers, 3.0, jnp.tanh, jnp.array(7))


X = np.array([0.1, -0.2], np.float32)


def loss(m, x):
    return jnp.sum(m(x) ** 2)


def by_hand(where):
    """Return the gradient with respect to what `where` picks, by plain JAX."""
    m = model()
    return jax.grad(lambda picked: loss(eqx_core.tree_at(where, m, picked), X))(where(m))


def paths(grads):
    return [jtu.keystr(path) for path, _ in jtu.tree_flatten_with_path(grads)[0]]


SELECTORS = {
    "a leaf": (lambda m: m.layers[0].weight, [".layers[0].weight"]),
    "a number": (lambda m: m.scale, [".scale"]),
    "leaves": (lambda m: (m.layers[1].bias, m.scale), [".layers[1].bias", ".scale"]),
    "a slice": (lambda m: m.layers[1:], [".layers[1].weight", ".layers[1].bias"]),
    "a node": (lambda m: m.layers[0], [".layers[0].weight", ".layers[0].bias"]),
}


@pytest.mark.parametrize("case", SELECTORS)
@pytest.mark.parametrize("transform", [lambda f: f, filter_jit])
def test_a_selector_picks_leaves_and_nodes(case, transform):
    where, expected = SELECTORS[case]
    grads = transform(filter_grad(loss, wrt=where))(model(), X)
    assert paths(grads) == expected
    leaves = jtu.tree_leaves(by_hand(where))
    for mine, theirs in zip(jtu.tree_leaves(grads), leaves, strict=True):
        assert isinstance(mine, jax.Array)
        np.testing.assert_allclose(mine, theirs, rtol=1e-4)


def test_of_a_node_what_cannot_be_differentiated_is_left_out():
    grads = filter_grad(loss, wrt=lambda m: m)(model(), X)
    assert paths(grads) == [f".layers[{i}].{name}" for i in (0, 1) for name in ("weight", "bias")] + [".scale"]
    assert (grads.count, grads.activation, grads.name) == (None, None, None)
    assert jtu.tree_structure(grads, is_leaf=lambda x: x is None) == jtu.tree_structure(model())


SPECS = {
    "a predicate": is_inexact_array,
    "a predicate that looks at the leaf": lambda leaf: leaf.dtype == jnp.float32 if is_array(leaf) else False,
    "a predicate that says so by its dtype": lambda leaf: isinstance(leaf, jax.Array) and np.issubdtype(leaf.dtype, np.inexact),
    "a prefix": jtu.tree_map(is_inexact_array, model()),
    "a prefix of nodes": Model([True, Linear(True, is_inexact_array)], False, False, False, False),
}  # fmt: skip


@pytest.mark.parametrize("case", SPECS)
def test_a_specification_is_that_of_filter(case):
    (value, aux), grads = filter_value_and_grad(lambda m, x: (loss(m, x), "aux"), wrt=SPECS[case], has_aux=True)(
        model(), X
    )
    expected_value, expected = filter_value_and_grad(loss)(model(), X)
    assert aux == "aux"
    np.testing.assert_allclose(value, expected_value)
    assert eqx_core.tree_equal(grads, expected, rtol=1e-4)


def test_a_predicate_that_only_works_on_leaves_is_a_predicate():
    tree = {"a": jnp.ones(2), "b": jnp.ones((2, 2))}
    grads = filter_grad(lambda t: jnp.sum(t["a"]) + jnp.sum(t["b"]), wrt=lambda leaf: leaf.ndim == 2)(tree)
    assert grads["a"] is None
    assert grads["b"].tolist() == [[1.0, 1.0]] * 2


def test_on_a_bare_leaf_a_selector_and_a_predicate_are_told_apart():
    for wrt in (lambda x: x, is_inexact_array, True, lambda x: x.ndim == 0):
        assert float(filter_grad(lambda x: x**2, wrt=wrt)(jnp.array(3.0))) == 6.0
    for wrt in (lambda x: x, lambda x: isinstance(x, float), True):
        grad = filter_grad(lambda x: x**2, wrt=wrt)(3.0)
        assert isinstance(grad, jax.Array)
        assert float(grad) == 6.0
    assert filter_grad(lambda x: x**2, wrt=lambda x: x.ndim == 1)(jnp.array(3.0)) is None


@given(st.lists(st.booleans(), min_size=1, max_size=5))
def test_exactly_the_leaves_said_are_differentiated(chosen):
    tree = [jnp.array(float(i)) for i in range(len(chosen))]
    grads = filter_grad(lambda t: sum(x**2 for x in t), wrt=chosen)(tree)
    expected = [2.0 * i if is_chosen else None for i, is_chosen in enumerate(chosen)]
    assert [None if grad is None else float(grad) for grad in grads] == expected


def test_it_works_under_vmap_and_jit_and_of_higher_order():
    step = filter_grad(loss, wrt=lambda m: m.layers[0].bias)
    xs = np.stack([X, 2 * X])
    grads = filter_jit(filter_vmap(step, in_axes=(None, 0)))(model(), xs)
    for i in (0, 1):
        np.testing.assert_allclose(grads.layers[0].bias[i], step(model(), xs[i]).layers[0].bias, rtol=1e-4)
    second = filter_grad(lambda x: filter_grad(lambda t: t[0] ** 3 * t[1], wrt=[True, False])(x)[0], wrt=[True, True])
    assert [float(g) for g in second([jnp.array(2.0), 5.0])] == [60.0, 12.0]


def test_it_decorates_and_methods_differentiate_self():
    class Quadratic(eqx_core.Module):
        a: jax.Array
        b: float

        @filter_grad(wrt=lambda self: self.b)
        def slope(self, x):
            return self.a * self.b * x

    grads = Quadratic(jnp.array(2.0), 3.0).slope(5.0)
    assert grads.a is None
    assert float(grads.b) == 10.0


def test_it_is_traced_once_for_one_specification():
    count = []

    def fun(t):
        count.append(None)
        return t[0] * t[1]

    for _ in range(3):
        filter_jit(filter_grad(fun, wrt=[True, False]))([jnp.array(1.0), 2.0])
    assert len(count) == 1
    filter_jit(filter_grad(fun, wrt=[False, True]))([jnp.array(1.0), 2.0])
    assert len(count) == 2


def test_integers_can_be_allowed():
    grads = filter_grad(lambda t: t[0] * 1.0, wrt=[True, False], allow_int=True)([jnp.array(1), jnp.array(2)])
    assert grads[0].dtype == jax.dtypes.float0
    assert grads[1] is None


def test_nothing_chosen_is_no_gradient():
    assert paths(filter_grad(loss, wrt=False)(model(), X)) == []


ERRORS = {
    "an integer array that is named": (lambda m: m.count, TypeError, r"got \S*i32\[\] at `x\.count`"),
    "a string": (lambda m: (m.scale, m.name), TypeError, r"got 'model' at `x\.name`"),
    "a predicate that passes integers": (is_array, TypeError, r"differentiated, floating-point .* at `x\.count`"),
    "a misspelt selector": (lambda m: m.layer, TypeError, r"raises, called with the tree, AttributeError .*'layer'"),
    "a selector of a value": (lambda m: m.layers[0].weight * 2, TypeError, r"must not look at values"),
    "a selector of something else": (lambda m: (m.scale, 3), ValueError, r"this one returned something else"),
    "a selector of nothing": (lambda m: [], ValueError, r"this one returned nothing"),
    "another structure": ([True, False], ValueError, r"`filter_grad\(wrt=\.\.\.\)` must have the structure"),
    "no bool": (Model(1, False, False, False, False), TypeError, r"must consist of bools and functions .*; got 1"),
    "a predicate that returns no bool": (
        Model(lambda leaf: "yes", False, False, False, False),
        TypeError,
        r"tells of a leaf by a bool, if it is none that picks nodes; got 'yes' for f32\[2\]",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_meant_is_an_error(case):
    wrt, error, match = ERRORS[case]
    with pytest.raises(error, match=match):
        filter_grad(loss, wrt=wrt)(model(), X)


def test_a_node_with_nothing_to_differentiate_names_the_doctor():
    tree = {"a": jnp.array(1.0), "hidden": [jnp.tanh, "text"]}
    with pytest.raises(ValueError, match=r"got nodes without floating-point .*`eqx_core.tree_doctor\(x\)`"):
        filter_grad(lambda t: t["a"], wrt=lambda t: t["hidden"])(tree)


def test_an_error_of_a_predicate_is_its_own():
    def predicate(leaf):
        if isinstance(leaf, float):
            raise RuntimeError("mine")
        return False

    with pytest.raises(RuntimeError, match="mine"):
        filter_grad(lambda t: t[0], wrt=predicate)([1.0])


def test_a_number_that_is_skipped_is_reported_by_the_doctor():
    grads = filter_grad(loss)(model(), X)
    assert grads.scale is None
    assert (".scale", "number") in [(f.path, f.kind) for f in eqx_core.tree_doctor(model(), quiet=True)]
