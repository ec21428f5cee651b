"""`gradf` and `value_and_grad_f` differentiate single leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
from eqx_filter import filter_jit, filter_vmap, gradf, is_array, is_inexact_array, value_and_grad_f


def fun(x, y):
    return jnp.sum(x["a"] ** 2 * x["b"]) * y


def args():
    return {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])}, jnp.array(5.0)


def by_hand(argnums=0):
    return jax.grad(fun, argnums=argnums)(*args())


@pytest.mark.parametrize("transform", [lambda f: f, filter_jit, jax.jit])
def test_a_tree_of_bools_says_which_leaves(transform):
    grad = transform(gradf(fun, filter_tree={"a": True, "b": False}))(*args())
    assert grad["b"] is None
    np.testing.assert_allclose(grad["a"], by_hand()["a"])


def test_a_function_says_which_leaves_and_is_asked_only_of_those_that_take_part():
    seen = []

    def filter_fn(leaf):
        seen.append(leaf)
        return leaf.shape == (2,)

    x, y = args()
    value, grad = value_and_grad_f(fun, filter_fn=filter_fn)(x, y)
    assert [id(leaf) for leaf in seen] == [id(x["a"]), id(x["b"])]
    assert float(value) == float(fun(x, y))
    assert eqx_core.tree_equal(grad, by_hand(), rtol=1e-6)


@pytest.mark.parametrize("argnums", [1, -1, (0, 1), (1, 0), (-1,)])
def test_arguments_are_chosen_by_number_as_with_jax(argnums):
    grad = gradf(fun, filter_fn=is_inexact_array, argnums=argnums)(*args())
    expected = jax.grad(fun, argnums=argnums)(*args())
    assert eqx_core.tree_equal(grad, expected, rtol=1e-6)


def test_only_where_number_and_filter_agree_is_there_a_gradient():
    tree = ({"a": False, "b": True}, True)
    grad_x, grad_y = gradf(fun, filter_tree=tree, argnums=(0, 1))(*args())
    assert grad_x["a"] is None
    np.testing.assert_allclose(grad_x["b"], by_hand()["b"])
    np.testing.assert_allclose(grad_y, by_hand(1))
    (only,) = gradf(fun, filter_tree=({"a": False, "b": True},), argnums=(0,))(*args())
    assert only["a"] is None
    np.testing.assert_allclose(only["b"], by_hand()["b"])


def test_other_leaves_may_be_anything_and_have_no_gradient():
    def fun(x, y):
        return x[1](x[0]) * y["by"], y["name"]

    tree = [jnp.array(2.0), jnp.sin, 3, "text", jnp.array(1)]
    (value, aux), grad = value_and_grad_f(fun, filter_fn=is_inexact_array, has_aux=True)(
        tree, y={"by": 3.0, "name": "n"}
    )
    assert aux == "n"
    assert grad[1:] == [None] * 4
    np.testing.assert_allclose(value, 3 * np.sin(2.0), rtol=1e-6)
    np.testing.assert_allclose(grad[0], 3 * np.cos(2.0), rtol=1e-6)
    grad, aux = gradf(fun, filter_fn=is_inexact_array, has_aux=True)(tree, {"by": 3.0, "name": "n"})
    assert aux == "n"
    np.testing.assert_allclose(grad[0], 3 * np.cos(2.0), rtol=1e-6)


def test_a_number_is_differentiated_if_it_is_chosen():
    grad = gradf(lambda x: x[0] * x[1], filter_fn=lambda leaf: isinstance(leaf, float))([jnp.array(2.0), 3.0])
    assert grad[0] is None
    assert isinstance(grad[1], jax.Array)
    assert float(grad[1]) == 2.0


def test_it_works_under_vmap_and_of_itself():
    tree = {"a": True, "b": False}
    xs = {"a": jnp.ones((3, 2)), "b": jnp.arange(6.0).reshape(3, 2)}
    grad = filter_vmap(gradf(fun, filter_tree=tree), in_axes=(0, None))(xs, 1.0)
    np.testing.assert_allclose(grad["a"], 2 * np.asarray(xs["b"]))
    second = gradf(
        lambda x: gradf(lambda x: x[0] ** 3 * x[1], filter_tree=[True, False])(x)[0], filter_tree=[True, True]
    )
    assert [float(g) for g in second([jnp.array(2.0), jnp.array(5.0)])] == [60.0, 12.0]


def test_nothing_chosen_is_no_gradient():
    assert gradf(fun, filter_fn=lambda _: False)(*args()) == {"a": None, "b": None}
    assert gradf(lambda x: 1.0, filter_fn=lambda _: True)(None) is None


@pytest.mark.parametrize(("make", "name"), [(gradf, "gradf"), (value_and_grad_f, "value_and_grad_f")])
def test_there_must_be_exactly_one_filter(make, name):
    for filters, got in (({}, "neither"), ({"filter_fn": is_array, "filter_tree": True}, "both")):
        with pytest.raises(ValueError, match=rf"`{name}\(filter_fn=.*exactly one of the two; got {got}\. Write"):
            make(fun, **filters)


def test_a_tree_of_another_structure_is_an_error():
    with pytest.raises(ValueError, match=r"`gradf\(filter_tree=\.\.\.\)` must have the structure"):
        gradf(fun, filter_tree={"a": True})(*args())
    with pytest.raises(ValueError, match=r"`gradf\(filter_tree=\.\.\.\)` must have the structure"):
        gradf(fun, filter_tree=({"a": True, "b": True},), argnums=(0, 1))(*args())


def test_a_tree_of_anything_but_bools_is_an_error():
    with pytest.raises(TypeError, match=r"must consist of bools; got 1\. .*`filter_fn`"):
        gradf(fun, filter_tree={"a": 1, "b": False})(*args())


def test_an_argument_that_is_not_there_is_an_error():
    for argnums in (2, (0, 0), -3):
        with pytest.raises(ValueError, match=r"`gradf\(argnums=\.\.\.\)` must be numbers of positional .* with 2\."):
            gradf(fun, filter_fn=is_array, argnums=argnums)(*args())


def test_a_leaf_that_cannot_be_differentiated_is_named():
    with pytest.raises(TypeError, match=r"`gradf\(filter_fn=\.\.\.\)` must choose .* got 'text' at `x\[0\]\[1\]`"):
        gradf(lambda x: x[0], filter_fn=lambda _: True)([jnp.array(1.0), "text"])
