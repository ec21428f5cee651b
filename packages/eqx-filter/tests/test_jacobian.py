import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_core
import eqx_filter
from eqx_filter import filter_hessian, filter_jacfwd, filter_jacrev

BOTH = pytest.mark.parametrize("transform", [filter_jacfwd, filter_jacrev])
ALL = pytest.mark.parametrize("transform", [filter_jacfwd, filter_jacrev, filter_hessian])
X = jnp.array([1.0, 2.0, 3.0])


class Affine(eqx_core.Module):
    weight: jax.Array
    count: int
    act: object
    steps: jax.Array

    def __call__(self, x):
        return self.act(self.weight @ x) * self.count


def affine():
    return Affine(jr.normal(jr.key(0), (2, 3)), 2, jnp.tanh, jnp.array(4))


def product(x):
    return {"cube": x**3, "sum": jnp.sum(x)}


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_on_arrays_they_are_those_of_jax(values):
    x = jnp.array(values, jnp.float32)
    pairs = [(filter_jacfwd, jax.jacfwd), (filter_jacrev, jax.jacrev), (filter_hessian, jax.hessian)]
    for ours, theirs in pairs:
        got, expected = ours(product)(x), theirs(product)(x)
        assert jtu.tree_structure(got) == jtu.tree_structure(expected)
        assert all(map(jnp.array_equal, jtu.tree_leaves(got), jtu.tree_leaves(expected)))


def test_the_hessian_of_a_cubic_is_known():
    assert filter_hessian(lambda x: jnp.sum(x**3))(X).tolist() == np.diag([6.0, 12.0, 18.0]).tolist()


@BOTH
def test_on_models_it_is_that_of_a_partition(transform):
    model = affine()
    got = transform(lambda m, x: m(x))(model, X)
    expected = jax.jacrev(lambda w: eqx_core.tree_at(lambda m: m.weight, model, w)(X))(model.weight)
    assert got.weight.shape == (2, 2, 3)
    np.testing.assert_allclose(got.weight, expected, rtol=1e-5, atol=1e-6)
    assert (got.count, got.act, got.steps) == (None, None, None)


def test_the_hessian_of_a_model_is_a_tree_of_trees():
    model = affine()
    got = filter_hessian(lambda m: jnp.sum(m(X)))(model)
    expected = jax.hessian(lambda w: jnp.sum(eqx_core.tree_at(lambda m: m.weight, model, w)(X)))(model.weight)
    np.testing.assert_allclose(got.weight.weight, expected, rtol=1e-5, atol=1e-5)
    assert got.count is None
    assert got.weight.act is None


AUXES = {
    "array": lambda x: jnp.sum(x),
    "static": lambda x: ("s", 3, None, jnp.sin),
    "both": lambda x: {"x": 2 * x, "s": "s", "key": jnp.array(1)},
    "none": lambda x: None,
}


@ALL
@pytest.mark.parametrize("aux", AUXES)
@pytest.mark.parametrize("jit", [False, True])
def test_aux_may_be_anything(transform, aux, jit):
    def fun(x):
        return (jnp.sum(x**3), AUXES[aux](x))

    transformed = transform(fun, has_aux=True)
    got, got_aux = (eqx_filter.filter_jit(transformed) if jit else transformed)(X)
    np.testing.assert_allclose(got, transform(lambda x: fun(x)[0])(X), rtol=1e-6)
    assert jtu.tree_structure(got_aux) == jtu.tree_structure(AUXES[aux](X))
    for leaf, expected in zip(jtu.tree_leaves(got_aux), jtu.tree_leaves(AUXES[aux](X)), strict=True):
        assert np.array_equal(leaf, expected)


@ALL
def test_nothing_leaks(transform):
    with jax.checking_leaks():
        transform(lambda x: (jnp.sum(x**2), (x, "s")), has_aux=True)(X)


@ALL
def test_it_nests_in_jit_vmap_and_grad(transform):
    def fun(x, by):
        return jnp.sum(x**3) * by

    plain = {filter_jacfwd: jax.jacfwd, filter_jacrev: jax.jacrev, filter_hessian: jax.hessian}[transform]
    both = [transform(fun), plain(fun)]
    for wrap in (
        jax.jit,
        eqx_filter.filter_jit,
        lambda f: lambda x, y: jax.vmap(f)(jnp.stack([x, x]), jnp.stack([y, y])),
        lambda f: jax.grad(lambda x, y: jnp.sum(f(x, y)), argnums=(0, 1)),
        lambda f: eqx_filter.filter_grad(lambda x, y: jnp.sum(f(x, y))),
        lambda f: eqx_filter.filter_jacfwd(lambda x, y: f(x, y)),
    ):
        got, expected = (wrap(f)(X, jnp.array(2.0)) for f in both)
        for a, b in zip(jtu.tree_leaves(got), jtu.tree_leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


@BOTH
def test_other_arguments_may_be_anything(transform):
    def fun(x, f, *, self, by):
        return f(x) * by

    assert transform(fun)(jnp.array(2.0), jnp.square, self="s", by=jnp.array(3.0)) == 12.0


@BOTH
def test_any_callable_will_do(transform):
    model = affine()
    expected = jax.jacrev(model)(X)
    for fun in (model, lambda x: model(x), model.__call__, eqx_core.Partial(lambda m, x: m(x), model)):
        np.testing.assert_allclose(transform(fun)(X), expected, rtol=1e-5, atol=1e-6)


def test_the_result_is_a_pytree_that_holds_the_callable():
    jacobian = filter_jacfwd(affine())
    assert len([leaf for leaf in jtu.tree_leaves(jacobian) if eqx_core.is_array(leaf)]) == 2
    assert not hasattr(jacobian, "__wrapped__")
    assert not hasattr(type(jacobian), "__get__")
    assert filter_jacfwd(product) == filter_jacfwd(product)
    assert filter_jacfwd(product) != filter_jacrev(product)


@ALL
def test_the_first_argument_must_be_given_by_position(transform):
    with pytest.raises(TypeError, match=r"Functions wrapped with `filter_jac\w+` must .* got no arguments"):
        transform(product)()
    with pytest.raises(TypeError, match=r"Functions wrapped with `filter_jac\w+` must .* keyword arguments .x."):
        transform(product)(x=X)


@ALL
def test_there_must_be_an_array_to_differentiate(transform):
    with pytest.raises(ValueError, match=r"must hold a floating-point array.* got a `float` without one"):
        transform(jnp.sin)(2.0)


@ALL
def test_a_function_with_aux_must_return_a_pair(transform):
    with pytest.raises(TypeError, match=r"`filter_jac\w+\(fun=...\)` must return a pair `\(value, aux\)`"):
        transform(jnp.sin, has_aux=True)(X)


@BOTH
def test_outputs_must_be_arrays_as_in_jax(transform):
    with pytest.raises(TypeError, match=r"'s'.* is not a valid JAX type"):
        transform(lambda x: (x, "s"))(X)


@ALL
def test_it_agrees_with_equinox(transform):
    equinox = pytest.importorskip("equinox")

    def fun(tree):
        return {"o": tree["x"] ** 3 * tree["f"]}

    tree = {"x": X, "f": 2.0, "n": jnp.array(1), "s": "s"}
    got, expected = transform(fun)(tree), getattr(equinox, transform.__name__)(fun)(tree)
    assert jtu.tree_structure(got) == jtu.tree_structure(expected)
    assert all(map(jnp.array_equal, jtu.tree_leaves(got), jtu.tree_leaves(expected)))
