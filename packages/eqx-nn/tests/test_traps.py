"""Mistakes that users of layers have run into elsewhere, each under its number in the list that was kept of them."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
import eqx_nn

KEY = jr.key(0)
XS = 3 + 2 * jr.normal(KEY, (6, 3))


def _norm(**kwargs):
    return eqx_nn.make_with_state(eqx_nn.BatchNorm)(3, "batch", **kwargs)


def _batch(norm, xs, state):
    return jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, state)


def test_trap_12_a_fresh_batch_norm_leaves_ones_as_they_are():
    norm, state = _norm(inference=True)
    np.testing.assert_allclose(norm(jnp.ones(3), state)[0], 1, rtol=1e-5)


def test_trap_12_training_and_inference_agree_after_many_batches():
    norm, state = _norm(momentum=0.5)
    for _ in range(30):
        out, state = _batch(norm, XS, state)
    inferred, _ = _batch(eqx_nn.inference_mode(norm), XS, state)
    np.testing.assert_allclose(inferred, out, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.var(0), 1, rtol=1e-4)


def test_trap_12_a_norm_is_called_twice_inside_of_a_loop_under_grad():
    norm, state = _norm()

    @jax.jit
    @jax.grad
    def gradient(xs, state):
        def body(carry, _):
            xs, state = carry
            xs, state = _batch(norm, xs, state)
            xs, state = _batch(norm, xs + 1, state)
            return (xs, state), state.get(norm.batch_counter)

        (xs, _), counters = jax.lax.scan(body, (xs, state), length=2)
        return (xs**3).sum() + counters.sum().astype(xs.dtype)

    assert np.isfinite(gradient(XS, state)).all()


@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 2)])
def test_trap_12_a_norm_works_under_one_more_vmap_whatever_the_rank(shape):
    norm, state = _norm()
    groups = jnp.stack([jnp.ones(shape), jr.normal(KEY, shape)])
    outer = jax.vmap(lambda xs, s: _batch(norm, xs, s), in_axes=(0, None))
    out, states = outer(groups, state)
    assert jax.tree.leaves(states)[1].shape == (2, 3)
    assert out.shape == (2, *shape)
    each = [_batch(norm, xs, jax.tree.map(lambda x: x, state))[0] for xs in groups]
    np.testing.assert_allclose(out, jnp.stack(each), rtol=1e-4, atol=1e-5)


class Model(eqx_core.Module):
    norm: eqx_nn.BatchNorm

    def __init__(self):
        self.norm = eqx_nn.BatchNorm(3, "batch")

    def __call__(self, x, state):
        return self.norm(x, state)


def test_trap_13_a_state_batched_by_default_out_axes_is_an_error_at_the_next_call():
    model, state = eqx_nn.make_with_state(Model)()
    forward = jax.vmap(model, axis_name="batch", in_axes=(0, None))
    _, batched = forward(XS, state)
    message = r"at `Model.norm.batch_counter`; got `i32\[6\]`: an earlier `vmap` .* `in_axes=\(0, None\), out_axes=\(0, None\)`"
    with pytest.raises(ValueError, match=message):
        forward(XS, batched)
    with pytest.raises(ValueError, match=message):
        eqx_nn.inference_mode(model)(XS[0], batched)
    with pytest.raises(ValueError, match=message):
        jax.jit(forward)(XS, batched)


def test_trap_13_writing_alone_notices_it_too():
    index, state = eqx_nn.make_with_state(eqx_nn.StateIndex)(jnp.array(0.0))
    batched = jax.vmap(lambda x, s: s.set(index, x), in_axes=(0, None))(jnp.ones(4), state)
    with pytest.raises(ValueError, match=r"`State.set\(index=...\)` must find an array with 0 axes at `StateIndex`"):
        batched.set(index, 1.0)


def test_trap_13_a_state_made_by_hand_is_watched_as_well():
    norm = eqx_nn.BatchNorm(3, "batch")
    state = eqx_nn.State(norm)
    _, batched = jax.vmap(norm, axis_name="batch", in_axes=(0, None))(XS, state)
    with pytest.raises(ValueError, match="an earlier `vmap` has given the state a batch axis"):
        _batch(norm, XS, batched)


def test_trap_13_an_ensemble_has_a_state_for_each_member():
    models, states = eqx_filter.filter_vmap(lambda _: eqx_nn.make_with_state(Model)())(jnp.arange(2))

    @eqx_filter.filter_vmap(in_axes=(eqx_filter.if_array(0), None, eqx_filter.if_array(0)))
    def forward(model, xs, state):
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, state)

    for calls in (1, 2):
        out, states = forward(models, XS, states)
        assert out.shape == (2, *XS.shape)
        assert jax.tree.leaves(states)[0].tolist() == [calls] * 2


def test_trap_13_an_old_state_is_refused_and_the_layer_is_named():
    model, state = eqx_nn.make_with_state(Model)()
    state.set(model.norm.batch_counter, 1)
    with pytest.raises(ValueError, match=r"on an old state, .* got one, for `Model.norm.batch_counter`"):
        eqx_nn.inference_mode(model)(jnp.ones(3), state)


@pytest.mark.parametrize("norm", [eqx_nn.LayerNorm(4), eqx_nn.RMSNorm(4)], ids=["LayerNorm", "RMSNorm"])
def test_trap_14_a_sequence_is_no_vector(norm):
    with pytest.raises(ValueError, match=r"must have shape `shape` = `\(4,\)`; got `f32\[3,4\]`.*jax.vmap"):
        norm(jnp.ones((3, 4)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    "norm",
    [eqx_nn.LayerNorm((2, 64)), eqx_nn.RMSNorm((2, 64)), eqx_nn.GroupNorm(1, 2)],
    ids=["LayerNorm", "RMSNorm", "GroupNorm"],
)
def test_trap_14_low_precision_goes_through_float32_and_comes_back(norm, dtype):
    x = (1000 + 10 * jr.normal(KEY, (2, 64))).astype(dtype)  # Squares overflow in float16, and vanish in bfloat16.
    out = norm(x)
    assert out.dtype == dtype
    np.testing.assert_allclose(out.astype("float32"), norm(x.astype("float32")), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_trap_14_positions_keep_the_dtype(dtype):
    assert eqx_nn.RotaryPositionalEmbedding(4, dtype=dtype)(jnp.ones((3, 4), dtype)).dtype == dtype


def test_trap_14_each_neuron_learns_a_slope_of_its_own():
    mlp = eqx_nn.MLP(2, 3, 4, 2, eqx_nn.PReLU(), eqx_nn.PReLU(), key=KEY)
    assert mlp.activation.negative_slope.shape == (2, 4)
    assert mlp.final_activation.negative_slope.shape == (3,)


def test_trap_14_the_old_flag_of_attention_is_obeyed():
    attention = eqx_nn.MultiheadAttention(1, 4, dropout_p=0.5, key=KEY)
    x = jr.normal(KEY, (3, 4))
    with pytest.warns(UserWarning, match="deterministic"):
        still = attention(x, x, x, deterministic=True)
    np.testing.assert_array_equal(still, attention(x, x, x, inference=True))
    with pytest.warns(UserWarning, match="deterministic"), pytest.raises(RuntimeError, match="key"):
        attention(x, x, x, deterministic=False)


class Wrapper(eqx_core.Module):
    inner: Any
    inference: bool = False


def test_trap_20_flags_below_twelve_others_are_reached():
    model = eqx_nn.Sequential([eqx_nn.BatchNorm(3, "batch"), eqx_nn.Dropout()])
    for _ in range(12):
        model = Wrapper(model)
    switched = eqx_nn.inference_mode(model)
    for _ in range(12):
        assert switched.inference is True
        switched = switched.inner
    assert [layer.inference for layer in switched] == [True, True]


def test_trap_20_both_halves_of_a_partitioned_model_can_be_switched():
    model = eqx_nn.Sequential([eqx_nn.Dropout(), eqx_nn.Linear(2, 2, key=KEY)])
    arrays, others = eqx_filter.partition(model, eqx_core.is_array)
    combined = eqx_filter.combine(arrays, eqx_nn.inference_mode(others))
    np.testing.assert_array_equal(combined(jnp.ones(2)), model[1](jnp.ones(2)))


def test_trap_20_flags_do_not_reach_an_optimiser():
    model = eqx_nn.Sequential([eqx_nn.Dropout(), eqx_nn.Linear(2, 2, key=KEY)])
    parameters = eqx_filter.filter(model, eqx_core.is_inexact_array)
    assert [leaf.shape for leaf in jax.tree.leaves(parameters)] == [(2, 2), (2,)]
    updated = eqx_core.apply_updates(model, jax.tree.map(jnp.zeros_like, parameters))
    assert updated[0].inference is False
