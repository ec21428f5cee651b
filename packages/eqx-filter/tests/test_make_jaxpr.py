"""`filter_make_jaxpr` gives the jaxpr of a function of anything."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.extend.core import jaxpr_as_fun

import eqx_core
import eqx_filter
from eqx_filter import filter_make_jaxpr


class Model(eqx_core.Module):
    weight: jax.Array
    name: str

    def __call__(self, x, scale=1):
        return self.weight * x * scale, self.name


def shape(struct):
    assert isinstance(struct, jax.ShapeDtypeStruct)
    return struct.shape, struct.dtype


def test_it_is_that_of_jax_on_arrays():
    def fun(x, y):
        return jnp.sin(x) + y

    ours, out, rest = filter_make_jaxpr(fun)(jnp.ones(2), jnp.ones(2))
    assert str(ours) == str(jax.make_jaxpr(fun)(jnp.ones(2), jnp.ones(2)))
    assert shape(out) == ((2,), jnp.float32)
    assert rest is None


def test_the_jaxpr_computes_the_result():
    model = Model(jnp.array([1.0, 2.0]), "model")
    jaxpr, _, _ = filter_make_jaxpr(model)(jnp.ones(2), 3)
    np.testing.assert_array_equal(jaxpr_as_fun(jaxpr)(jnp.full(2, 5.0))[0], [15.0, 30.0])


def test_what_is_no_array_is_static():
    own = jax.ShapeDtypeStruct((7,), jnp.int8)
    jaxpr, out, rest = filter_make_jaxpr(lambda x, n, s: {"x": x[:n], "rest": (s, own, n, None)})(jnp.ones(3), 2, "s")
    assert len(jaxpr.jaxpr.invars) == len(jaxpr.jaxpr.outvars) == 1
    assert shape(out["x"]) == ((2,), jnp.float32)
    assert out["rest"] == (None, None, None, None)
    assert rest == {"x": None, "rest": ("s", own, 2, None)}


def test_structs_and_keys_stand_for_arrays():
    key = jax.ShapeDtypeStruct((), jr.key(0).dtype)
    for arg in (key, jr.key(0)):
        jaxpr, out, _ = filter_make_jaxpr(lambda k: jr.normal(k, (2,)))(arg)
        assert len(jaxpr.jaxpr.invars) == 1
        assert shape(out) == ((2,), jnp.float32)


def test_arrays_that_the_callable_holds_are_constants_each_once():
    model = Model(jnp.ones(2), "model")
    w = model.weight
    jaxpr, _, _ = filter_make_jaxpr(lambda x: (model(x), w + w + x))(jnp.ones(2))
    assert [const is w for const in jaxpr.consts] == [True]
    jaxpr, _, rest = filter_make_jaxpr(model)(jnp.ones(2))
    assert [const is w for const in jaxpr.consts] == [True]
    assert len(jaxpr.jaxpr.invars) == 1
    assert rest == (None, "model")


def test_arguments_by_name_are_arguments():
    jaxpr, out, _ = filter_make_jaxpr(lambda *, x, n: x * n)(x=jnp.ones(2), n=2)
    assert len(jaxpr.jaxpr.invars) == 1
    assert shape(out) == ((2,), jnp.float32)


def test_each_primitive_is_there_once():
    jaxpr, _, _ = filter_make_jaxpr(lambda x: jnp.sin(x) * 2)(jnp.ones(2))
    assert [str(eqn.primitive) for eqn in jaxpr.eqns] == ["sin", "mul"]


def test_it_works_within_other_transformations():
    counts = []

    def fun(x):
        counts.append(len(filter_make_jaxpr(jnp.sin)(x)[0].eqns))
        return x.sum()

    jax.jit(jax.grad(fun))(jnp.ones(2))
    jax.vmap(fun)(jnp.ones((3, 2)))
    assert counts == [1, 1]


def test_it_shows_the_other_transformations():
    jaxpr, out, _ = filter_make_jaxpr(eqx_filter.filter_vmap(jnp.sum))(jnp.ones((3, 2)))
    assert shape(out) == ((3,), jnp.float32)
    assert jaxpr.eqns


def test_it_is_a_module_that_carries_the_name():
    def fun(x):
        """Say something."""
        return x

    made = filter_make_jaxpr(fun)
    assert isinstance(made, eqx_core.Module)
    assert (made.__name__, made.__doc__, made.__wrapped__) == ("fun", "Say something.", fun)


def test_an_empty_result_has_an_empty_jaxpr():
    jaxpr, out, rest = filter_make_jaxpr(lambda: ())()
    assert (jaxpr.eqns, out, rest) == ([], (), ())
