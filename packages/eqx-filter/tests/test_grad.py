import functools
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads

import eqx_core
import eqx_filter
from eqx_filter import filter_grad, filter_value_and_grad


class Affine(eqx_core.Module):
    weight: jax.Array
    bias: jax.Array | None
    count: jax.Array
    scale: float
    act: object
    name: str = eqx_core.field(static=True)
    flag: bool = True

    def __call__(self, x):
        y = self.weight @ x
        return self.act(y if self.bias is None else y + self.bias) * self.scale

    def loss(self, x):
        return jnp.sum(self(x) ** 2)

    @filter_grad
    def grad_of_loss(self, x):
        return self.loss(x)


def affine(seed=0, bias=True):
    weight, b = jr.normal(jr.key(seed), (2, 3)), jr.normal(jr.key(seed + 1), (2,))
    return Affine(weight, b if bias else None, jnp.array(3), 2.0, jnp.tanh, "affine")


X = jnp.array([1.0, -2.0, 0.5])


def loss(model, x):
    return model.loss(x)


def by_hand(model, x, fun=loss):
    arrays, rest = eqx_filter.partition(model, eqx_core.is_inexact_array)
    return jax.value_and_grad(lambda arrays: fun(eqx_filter.combine(arrays, rest), x))(arrays)


def assert_same(got, expected):
    assert jtu.tree_structure(got) == jtu.tree_structure(expected)
    jtu.tree_map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)


@settings(max_examples=20)
@given(st.lists(st.floats(-3, 3, width=32), min_size=3, max_size=3))
def test_on_arrays_it_is_jax_grad(values):
    x = jnp.array(values, jnp.float32)

    def fun(x):
        return jnp.sum(jnp.sin(x) * x)

    value, grad = filter_value_and_grad(fun)(x)
    expected_value, expected = jax.value_and_grad(fun)(x)
    assert jnp.array_equal(value, expected_value)
    assert jnp.array_equal(grad, expected)
    assert jnp.array_equal(filter_grad(fun)(x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_on_models_it_is_grad_of_a_partition(bias):
    model = affine(bias=bias)
    value, grad = filter_value_and_grad(loss)(model, X)
    expected_value, expected = by_hand(model, X)
    assert jnp.array_equal(value, expected_value)
    assert_same(grad, expected)
    assert grad.count is None
    assert grad.scale is None
    assert grad.act is None
    assert grad.flag is None
    assert grad.name == "affine"


def test_gradients_agree_with_finite_differences():
    model = affine()

    @jax.custom_vjp
    def value(weight):
        return loss(eqx_core.tree_at(lambda m: m.weight, model, weight), X)

    def fwd(weight):
        changed = eqx_core.tree_at(lambda m: m.weight, model, weight)
        value, grad = filter_value_and_grad(loss)(changed, X)
        return value, grad.weight

    value.defvjp(fwd, lambda grad, ct: (ct * grad,))
    check_grads(value, (model.weight,), order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


def test_gradients_suit_apply_updates():
    model = affine()
    grad = filter_grad(loss)(model, X)
    stepped = eqx_core.apply_updates(model, jtu.tree_map(lambda g: -0.01 * g, grad))
    assert stepped.loss(X) < model.loss(X)
    assert stepped.act is model.act


@pytest.mark.parametrize("jit", [jax.jit, eqx_filter.filter_jit])
def test_it_works_inside_of_jit(jit):
    model = affine()
    arrays, rest = eqx_filter.partition(model, eqx_core.is_array)
    got = jit(lambda arrays, x: filter_grad(loss)(eqx_filter.combine(arrays, rest), x).weight)(arrays, X)
    np.testing.assert_allclose(got, by_hand(model, X)[1].weight, rtol=1e-5)


def test_it_works_around_jit():
    model = affine()
    expected = by_hand(model, X)[1]
    assert_same(filter_grad(eqx_filter.filter_jit(loss))(model, X), expected)
    assert_same(eqx_filter.filter_jit(filter_grad(loss))(model, X), expected)


def test_jit_of_two_equal_gradients_traces_once():
    traces = []

    def fun(x):
        traces.append(None)
        return x**2

    for _ in range(2):
        assert eqx_filter.filter_jit(filter_grad(fun))(jnp.array(3.0)) == 6.0
    assert len(traces) == 1


def test_it_works_under_vmap_and_around_it():
    xs = jr.normal(jr.key(1), (5, 3))
    model = affine()
    each = jax.vmap(lambda x: filter_grad(loss)(model, x).weight)(xs)
    for got, x in zip(each, xs, strict=True):
        np.testing.assert_allclose(got, by_hand(model, x)[1].weight, rtol=1e-5, atol=1e-6)
    total = filter_grad(lambda model: jnp.sum(jax.vmap(model.loss)(xs)))(model)
    np.testing.assert_allclose(total.weight, jnp.sum(each, 0), rtol=1e-5, atol=1e-5)


def test_gradients_nest():
    third = filter_grad(filter_grad(filter_grad(lambda x: x**4)))
    assert third(jnp.array(2.0)) == 48.0
    mixed = jax.grad(lambda y: filter_grad(lambda pair: pair[0] ** 2 * y)((jnp.array(3.0), "s"))[0])
    assert mixed(2.0) == 6.0


def partial_of_loss(model):
    return functools.partial(lambda x, model: model.loss(x), model=model)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: model.loss,
        lambda model: lambda x: model.loss(x),
        lambda model: eqx_core.Partial(lambda model, x: model.loss(x), model),
        partial_of_loss,
        lambda model: jax.jit(lambda x: model.loss(x)),
        lambda model: eqx_filter.filter_jit(model.loss),
    ],
)
def test_any_callable_is_differentiated_by_its_argument_alone(make):
    model = affine()
    got = filter_grad(make(model))(X)
    np.testing.assert_allclose(got, jax.grad(lambda x: model.loss(x))(X), rtol=1e-5)


class WithoutSignature:
    __signature__ = "none"

    def __call__(self, x):
        return x**2


def test_a_callable_without_a_signature_works():
    assert filter_grad(WithoutSignature())(jnp.array(3.0)) == 6.0


def test_modules_are_differentiated_by_their_argument():
    class Square(eqx_core.Module):
        by: jax.Array

        def __call__(self, x):
            return self.by * x**2

    grad = filter_grad(Square(jnp.array(3.0)))
    assert grad(jnp.array(2.0)) == 12.0
    assert [leaf for leaf in jtu.tree_leaves(grad) if eqx_core.is_array(leaf)] == [3.0]
    assert jax.vmap(lambda by: filter_grad(Square(by))(jnp.array(2.0)))(jnp.arange(3.0)).tolist() == [0.0, 4.0, 8.0]


def test_as_a_method_it_differentiates_by_self():
    model = affine()
    assert_same(model.grad_of_loss(X), by_hand(model, X)[1])
    assert_same(Affine.grad_of_loss(model, X), by_hand(model, X)[1])


def test_it_goes_under_classmethod_and_staticmethod():
    class Holder(eqx_core.Module):
        @classmethod
        @filter_value_and_grad
        def of_class(cls, x):
            return x

        @staticmethod
        @filter_grad
        def of_none(x):
            return x**2

    assert Holder.of_none(jnp.array(3.0)) == 6.0
    assert Holder().of_none(jnp.array(3.0)) == 6.0
    # What is differentiated is the first argument, here the class.
    assert Holder.of_class(jnp.array(3.0)) == (3.0, None)
    assert Holder().of_class(jnp.array(3.0)) == (3.0, None)


def test_aux_may_be_anything():
    def fun(x, y):
        return (x**2, (x + y, "text", 3, None, abs, jnp.array(1), np.ones(2)))

    grad, aux = filter_grad(fun, has_aux=True)(jnp.array(3.0), 1.0)
    (value, aux_again), grad_again = filter_value_and_grad(fun, has_aux=True)(jnp.array(3.0), 1.0)
    assert (grad, grad_again, value) == (6.0, 6.0, 9.0)
    for x, text, three, none, function, one, ones in (aux, aux_again):
        assert (x, text, three, none, function, one) == (4.0, "text", 3, None, abs, 1)
        assert ones.tolist() == [1.0, 1.0]


def test_aux_does_not_leak_tracers():
    with jax.checking_leaks():
        _, aux = filter_grad(lambda x: (jnp.sin(x), {"x": x * 2, "fn": jnp.sin}), has_aux=True)(jnp.array(1.0))
    assert aux["x"] == 2.0
    nested = jax.grad(lambda y: filter_grad(lambda x: (x * y, (x * y**2, "s")), has_aux=True)(jnp.array(2.0))[1][0])
    assert nested(3.0) == 12.0


def test_without_fun_it_is_a_decorator_factory():
    @filter_value_and_grad(has_aux=True)
    def fun(x):
        """Say what it does."""
        return x**2, "aux"

    assert fun(jnp.array(3.0)) == ((9.0, "aux"), 6.0)
    assert fun.__name__ == "fun"
    assert fun.__doc__ == "Say what it does."
    assert fun.__wrapped__(2.0) == (4.0, "aux")
    assert filter_grad(has_aux=True)(lambda x: (x**2, "aux"))(jnp.array(3.0)) == (6.0, "aux")
    assert filter_grad(abs).__wrapped__ is abs


def test_transformed_functions_are_equal_if_what_they_wrap_is():
    assert filter_grad(loss) == filter_grad(loss)
    assert filter_grad(loss) != filter_grad(loss, has_aux=True)
    assert filter_value_and_grad(loss) == filter_value_and_grad(loss)


def test_numpy_arrays_are_differentiated():
    grad = filter_grad(lambda pair: jnp.sum(pair[0] ** 2))((np.ones(2, np.float32), np.int32(3)))
    assert grad[0].tolist() == [2.0, 2.0]
    assert grad[1] is None


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_gradients_have_the_dtype_of_the_array(dtype):
    assert filter_grad(lambda x: x**2)(jnp.array(3.0, dtype)).dtype == dtype


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        grad = filter_grad(lambda x: jnp.sin(x))(jnp.array(1.0, jnp.float64))
        assert grad.dtype == jnp.float64
        np.testing.assert_allclose(grad, np.cos(1.0), rtol=1e-15)


def test_complex_arrays_need_holomorphic_as_in_jax():
    z = jnp.array(1.0 + 2.0j)
    assert filter_grad(lambda z: z**2, holomorphic=True)(z) == jax.grad(lambda z: z**2, holomorphic=True)(z)
    assert filter_grad(lambda z: jnp.abs(z))(z) == jax.grad(jnp.abs)(z)


def test_structs_keys_and_empty_trees_have_no_gradient():
    tree = (jax.ShapeDtypeStruct((2,), jnp.float32), jr.key(0), {}, [], None, jnp.array(1.0))
    grad = filter_grad(lambda tree: tree[5] ** 2)(tree)
    assert grad == (None, None, {}, [], None, 2.0)
    assert filter_grad(lambda tree: jnp.array(1.0))({}) == {}


def test_the_other_arguments_may_be_anything():
    def fun(x, *args, **kwargs):
        return x * len(args) * kwargs["self"] * kwargs["by"]

    assert filter_grad(fun)(jnp.array(1.0), "s", None, object(), self=2.0, by=jnp.array(3.0)) == 18.0


def test_a_python_float_that_would_never_train_is_reported():
    class Model(eqx_core.Module):
        weight: float

    with pytest.warns(
        UserWarning, match=r"nothing to differentiate.*`x\.weight` is a Python `float`.*jnp\.asarray.*tree_doctor"
    ):
        grad = filter_grad(lambda model: jnp.asarray(model.weight) ** 2)(Model(1.0))
    assert grad == Model(None)
    with pytest.warns(UserWarning, match="`x` is a Python `complex`"):
        filter_value_and_grad(lambda x: jnp.array(1.0))(1.0j)


def test_a_python_float_beside_arrays_is_not_reported():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert filter_grad(lambda pair: pair[0] * pair[1])((jnp.array(1.0), 2.0)) == (2.0, None)
        assert filter_grad(lambda x: jnp.array(1.0))((1, "s", None)) == (None, None, None)


@pytest.mark.parametrize("transform", [filter_grad, filter_value_and_grad])
def test_the_first_argument_must_be_given_by_position(transform):
    name = transform.__name__
    with pytest.raises(TypeError, match=f"Functions wrapped with `{name}` must .* got no arguments"):
        transform(loss)()
    with pytest.raises(TypeError, match=f"Functions wrapped with `{name}` must .* only keyword arguments .model, x."):
        transform(loss)(model=affine(), x=X)


@pytest.mark.parametrize("transform", [filter_grad, filter_value_and_grad])
def test_options_are_checked_at_once(transform):
    name = transform.__name__
    with pytest.raises(ValueError, match=rf"`{name}\(argnums=...\)` must not be given; got \(0, 1\)"):
        transform(loss, argnums=(0, 1))
    for option in ("arg", "filter_spec"):
        with pytest.raises(ValueError, match=rf"`{name}\({option}=...\)` .* went away in Equinox 0.10.0"):
            transform(**{option: None})
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        transform(loss, nonsense=1)


def test_a_function_with_aux_must_return_a_pair():
    for out in (lambda x: x, lambda x: (x, 1, 2)):
        with pytest.raises(
            TypeError, match=r"`filter_grad\(fun=...\)` must return a pair `\(value, aux\)`.*got `.*f32"
        ):
            filter_grad(out, has_aux=True)(jnp.array(1.0))


def test_the_value_must_be_a_scalar_as_in_jax():
    with pytest.raises(TypeError, match=r"scalar-output functions. Output had shape: \(3,\)"):
        filter_grad(lambda x: x)(X)
    with pytest.raises(TypeError, match="real-valued"):
        filter_grad(lambda x: jnp.array(1) + 0 * x.astype(int))(jnp.array(1.0))


def test_it_agrees_with_equinox():
    equinox = pytest.importorskip("equinox")
    model = affine()
    ours, theirs = filter_value_and_grad(loss)(model, X), equinox.filter_value_and_grad(loss)(model, X)
    assert jtu.tree_structure(ours) == jtu.tree_structure(theirs)
    assert all(map(jnp.array_equal, jtu.tree_leaves(ours), jtu.tree_leaves(theirs)))


class Layer(eqx_core.Module):
    weight: jax.Array

    def __call__(self, x):
        return self.weight * x

    def step(self, carry, _):
        return self(carry), None


def test_models_in_control_flow_are_differentiated():
    layers, x = [Layer(jnp.array(2.0)), Layer(jnp.array(5.0))], jnp.array(3.0)

    def scanned(layer, step):
        return jax.lax.scan(lambda c, _: step(c, _), x, None, length=2)[0]

    assert filter_grad(lambda layer: scanned(layer, layer.step))(layers[0]).weight == 12.0
    partial = eqx_core.Partial(lambda layer, c, _: layer.step(c, _), layers[0])
    assert filter_grad(lambda partial: scanned(None, partial))(partial).args[0].weight == 12.0

    def switched(layers, i):
        return jax.lax.switch(i, [lambda x, layer=layer: layer(x) for layer in layers], x)

    for jit in (jax.jit, eqx_filter.filter_jit):
        grads = jit(lambda i: filter_grad(switched)(layers, i))(jnp.array(1))
        assert [grad.weight for grad in grads] == [0.0, 3.0]
