import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_nn

KEY = jr.key(0)
XS = 3 + 2 * jr.normal(KEY, (6, 3, 4))


def _make(nn=eqx_nn, **kwargs):
    return nn.make_with_state(nn.BatchNorm)(**{"input_size": 3, "axis_name": "batch", "mode": "batch"} | kwargs)


def _call(norm, xs, state):
    return jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, state)


def _close(ours, theirs, tolerance=1e-5):
    ours, theirs = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a, "float32"), np.asarray(b, "float32"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["batch", "ema"])
@pytest.mark.parametrize("kwargs", [{}, {"momentum": 0.5}, {"channelwise_affine": False}, {"eps": 0.1}], ids=str)
def test_batch_norm_is_the_peers_step_by_step(peer, same_arrays, mode, kwargs):
    (ours, our_state), (theirs, their_state) = (_make(nn, mode=mode, **kwargs) for nn in (eqx_nn, peer))
    same_arrays(eqx_core.tree_at(lambda n: n.axis_name, ours, 0), eqx_core.tree_at(lambda n: n.axis_name, theirs, 0))
    for step in range(3):
        xs = (step + 1) * XS
        same = [nn.inference_mode(layer) for nn, layer in ((eqx_nn, ours), (peer, theirs))]
        _close(same[0](XS[0], our_state)[0], same[1](XS[0], their_state)[0], 1e-4)
        (out, our_state), (their_out, their_state) = _call(ours, xs, our_state), _call(theirs, xs, their_state)
        _close(out, their_out)
        _close(our_state, their_state)


def test_training_normalises_by_the_batch():
    norm, state = _make()
    norm = eqx_core.tree_at(lambda n: (n.weight, n.bias), norm, (jnp.arange(3.0), jnp.arange(3.0) - 1))
    xs = np.asarray(XS)
    normal = (xs - xs.mean((0, 2), keepdims=True)) / np.sqrt(xs.var((0, 2), keepdims=True) + 1e-5)
    expected = normal * np.arange(3)[:, None] + np.arange(3)[:, None] - 1
    np.testing.assert_allclose(_call(norm, XS, state)[0], expected, rtol=1e-4, atol=1e-5)


def test_running_statistics_are_means_over_batches_from_the_first_on():
    norm, state = _make(momentum=0.9)
    batches = [XS, XS + 5, 2 * XS]
    weights = np.array([0.9**2, 0.9, 1]) * 0.1
    for xs in batches:
        _, state = _call(norm, xs, state)
    mean = sum(w * np.asarray(xs).mean((0, 2)) for w, xs in zip(weights, batches, strict=True)) / weights.sum()
    variance = sum(w * np.asarray(xs).var((0, 2)) for w, xs in zip(weights, batches, strict=True))
    variance = (variance + 0.9**3) / weights.sum()  # The 1 that it starts from.
    out, same = eqx_nn.inference_mode(norm)(XS[0], state)
    expected = (np.asarray(XS[0]) - mean[:, None]) / np.sqrt(variance[:, None] + 1e-5)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
    assert same is state


def test_batch_is_the_default_and_does_nothing_before_training():
    norm, state = eqx_nn.make_with_state(eqx_nn.BatchNorm)(3, "batch", inference=True)
    assert norm.mode == "batch"
    np.testing.assert_allclose(norm(jnp.ones((3, 2)), state)[0], np.ones((3, 2)), rtol=1e-5)


def test_first_batch_makes_the_running_statistics_of_mode_ema():
    norm, state = _make(mode="ema")
    _, state = _call(norm, XS, state)
    mean, variance = state.get(norm.ema_state_index)
    np.testing.assert_allclose(mean, XS.mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, XS.var((0, 2)), rtol=1e-5)
    assert not state.get(norm.ema_first_time_index)


def test_the_call_overrules_the_layer():
    norm, state = _make(inference=True)
    out, _ = jax.vmap(
        lambda x, s: norm(x, s, inference=False), axis_name="batch", in_axes=(0, None), out_axes=(0, None)
    )(XS, state)
    np.testing.assert_allclose(out, _call(_make()[0], XS, _make()[1])[0], rtol=1e-5)


def test_several_axes_are_normalised_together():
    norm, state = _make(axis_name=("a", "b"))
    split = jax.vmap(norm, axis_name="a", in_axes=(0, None), out_axes=(0, None))
    split = jax.vmap(split, axis_name="b", in_axes=(0, None), out_axes=(0, None))
    out, new = split(XS.reshape(2, 3, 3, 4), state)
    whole, state = _call(*(lambda made: (made[0], XS, made[1]))(_make()))
    np.testing.assert_allclose(out.reshape(6, 3, 4), whole, rtol=1e-4, atol=1e-5)
    _close(jax.tree.leaves(new), jax.tree.leaves(state))
    listed, state = _make(axis_name=["a", "b"])
    assert listed.axis_name == ["a", "b"]


def test_an_outer_axis_without_the_name_maps_the_state():
    norm, state = _make()
    groups = jnp.stack([XS, XS + 1])
    out, states = jax.vmap(lambda xs: _call(norm, xs, jax.tree.map(lambda x: x, state)))(groups)
    np.testing.assert_allclose(out[1], out[0], rtol=1e-3, atol=1e-4)
    assert jax.tree.leaves(states)[1].shape == (2, 3)


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_derivatives_work_under_jit_twice_in_a_row(mode):
    norm, state = _make(mode=mode)

    @jax.jit
    @jax.value_and_grad
    def loss(norm_arrays, state):
        weight, bias = norm_arrays
        layer = eqx_core.tree_at(lambda n: (n.weight, n.bias), norm, (weight, bias))
        out, state = _call(layer, XS, state)
        out, state = _call(layer, out, state)
        return (out**3).sum()

    value, gradient = loss((norm.weight, norm.bias), state)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in gradient)


def test_gradient_is_that_of_the_batch_formula():
    norm, state = _make()

    def ours(xs):
        return (_call(norm, xs, jax.tree.map(lambda x: x, state))[0] ** 3).sum()

    def formula(xs):
        mean = xs.mean((0, 2), keepdims=True)
        variance = ((xs - mean) ** 2).mean((0, 2), keepdims=True)
        return (((xs - mean) / jnp.sqrt(variance + 1e-5)) ** 3).sum()

    np.testing.assert_allclose(jax.grad(ours)(XS), jax.grad(formula)(XS), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_statistics_are_computed_in_float32(dtype):
    norm, state = _make()
    xs = (100 * XS).astype(dtype)
    out, state = _call(norm, xs, state)
    assert out.dtype == xs.dtype
    np.testing.assert_allclose(out.astype("float32"), _call(norm, xs.astype("float32"), _make()[1])[0], atol=2e-2)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"int32", "float32"}


@pytest.mark.usefixtures("x64")
def test_64_bits_stay_64_bits():
    norm, state = _make()
    out, state = _call(norm, XS.astype("float64"), state)
    assert out.dtype == state.get(norm.batch_state_index)[0].dtype == jnp.float64


def test_a_vector_is_one_value_per_channel():
    norm, state = _make()
    xs = XS[..., 0]
    out, _ = _call(norm, xs, state)
    np.testing.assert_allclose(
        out, (xs - xs.mean(0, keepdims=True)) / jnp.sqrt(xs.var(0, keepdims=True) + 1e-5), rtol=1e-4, atol=1e-5
    )


def test_a_state_batched_by_mistake_is_reported_at_the_next_call():
    model, state = eqx_nn.make_with_state(lambda: [eqx_nn.BatchNorm(3, "batch")])()
    _, state = jax.vmap(model[0], axis_name="batch", in_axes=(0, None))(XS, state)
    with pytest.raises(ValueError, match=r"at `list\[0\].batch_counter`; got `i32\[6\]`: an earlier `vmap`"):
        eqx_nn.inference_mode(model)[0](XS[0], state)


def test_training_needs_the_axis():
    norm, state = _make()
    with pytest.raises(NameError, match="batch"):
        norm(XS[0], state)


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match=re.escape('`BatchNorm(mode=...)` must be "batch" or "ema"; got \'legacy\'')):
        eqx_nn.BatchNorm(3, "batch", mode="legacy")


@pytest.mark.parametrize("shape", [(), (2, 3), (4,)])
def test_input_of_another_shape_is_refused(shape):
    norm, state = _make()
    with pytest.raises(
        ValueError, match=re.escape("`BatchNorm.__call__(x)` must have shape `(input_size, ...)` = `(3, ...)`")
    ):
        norm(jnp.ones(shape), state)
