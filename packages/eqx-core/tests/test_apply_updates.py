import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core


class Layer(eqx_core.Module):
    weight: object
    name: object = "layer"


floats = st.floats(-100, 100, width=32)


@given(st.lists(st.tuples(floats, floats), max_size=5))
def test_updates_are_added(pairs):
    model = Layer([a for a, _ in pairs])
    updates = Layer([b for _, b in pairs], None)
    assert eqx_core.apply_updates(model, updates).weight == [a + b for a, b in pairs]


@given(st.lists(floats, max_size=5))
def test_no_update_keeps_the_same_objects(values):
    model = Layer(values)
    new = eqx_core.apply_updates(model, Layer([None] * len(values), None))
    assert all(a is b for a, b in zip(new.weight, values, strict=True))


def test_none_keeps_a_whole_part():
    inner = Layer(jnp.ones(2))
    new = eqx_core.apply_updates([inner, jnp.ones(3)], [None, jnp.ones(3)])
    assert new[0] is inner
    assert (new[1] == 2).all()
    assert eqx_core.apply_updates(inner, None) is inner


def test_it_works_under_jit_and_grad():
    model = Layer(jnp.arange(3.0), None)

    def step(m):
        return eqx_core.apply_updates(m, Layer(jnp.ones(3), None)).weight

    assert (jax.jit(step)(model) == jnp.arange(3.0) + 1).all()
    assert (jax.grad(lambda m: step(m).sum())(model).weight == 1).all()


def test_the_sum_is_that_of_plus():
    new = eqx_core.apply_updates((np.float32(1), 1, jnp.bfloat16(1)), (np.float32(2), 2.0, 2.0))
    assert new == (3, 3.0, 3)
    assert type(new[1]) is float
    assert new[2].dtype == jnp.bfloat16


def test_an_object_that_cannot_be_added_to_is_an_error():
    with pytest.raises(TypeError, match="can only concatenate str"):
        eqx_core.apply_updates(("a",), (1.0,))
    with pytest.raises(TypeError, match="NoneType"):
        eqx_core.apply_updates((None,), (1.0,))


def test_updates_must_be_a_prefix():
    with pytest.raises(
        ValueError, match=r"`apply_updates\(updates=...\)` must be a prefix of `model`; got .*`\(1.0,\)`"
    ):
        eqx_core.apply_updates((1.0, 2.0), (1.0,))


def test_it_is_what_optax_needs():
    optax = pytest.importorskip("optax")
    model = Layer(jnp.ones(2), None)
    optimiser = optax.sgd(0.5)
    updates, _ = optimiser.update(Layer(jnp.ones(2), None), optimiser.init(model), model)
    assert (eqx_core.apply_updates(model, updates).weight == 0.5).all()
