import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
import eqx_nn

XS = jr.normal(jr.key(0), (4, 3))


class Model(eqx_core.Module):
    """Two batch norms."""

    first: eqx_nn.BatchNorm
    second: eqx_nn.BatchNorm

    def __init__(self, mode="batch"):
        self.first = eqx_nn.BatchNorm(3, "batch", mode=mode)
        self.second = eqx_nn.BatchNorm(3, "batch", mode=mode)

    def __call__(self, x, state, lose=()):
        x, new = self.first(x, state if "first" not in lose else _copy(state))
        state = state if "first" in lose else new
        x, new = self.second(x, state if "second" not in lose else _copy(state))
        return x, state if "second" in lose else new


def _copy(state):
    return jax.tree.map(lambda x: x, state)


def _make(mode="batch"):
    return eqx_nn.make_with_state(Model)(mode)


def _batch(model, xs, state, lose=()):
    return jax.vmap(lambda x, s: model(x, s, lose), axis_name="batch", in_axes=(0, None), out_axes=(0, None))(xs, state)


def _loss(model, xs, state, lose=()):
    out, state = _batch(model, xs, state, lose)
    return (out**2).sum(), state


def _lost(fn, *args):
    """Return the layers that are named as having lost an update."""
    with pytest.raises(
        RuntimeError, match=r"`check_state\(fn\)` must be given .* loses what was written to `"
    ) as error:
        eqx_nn.check_state(fn)(*args)
    return {name for name in ("first", "second", "Counter") if f"{name}." in str(error.value)}


# Each way of going through the layers, which returns its state unless told otherwise.
def _jit(model, xs, state, lose=()):
    return jax.jit(lambda xs, state: _loss(model, xs, state, lose))(xs, state)


def _scan(model, xs, state, lose=()):
    return jax.lax.scan(lambda s, x: _loss(model, x, s, lose)[::-1], state, jnp.stack([xs, xs]))[::-1]


def _cond(model, xs, state, lose=()):
    return jax.lax.cond(xs[0, 0] > 0, lambda s: _loss(model, xs, s, lose), lambda s: (0.0, s), state)


def _grad(model, xs, state, lose=()):
    return eqx_filter.filter_grad(_loss, has_aux=True)(model, xs, state, lose)


def _remat(model, xs, state, lose=()):
    return eqx_filter.filter_grad(eqx_filter.filter_checkpoint(_loss), has_aux=True)(model, xs, state, lose)


def _twice(model, xs, state, lose=()):
    _, state = _loss(model, xs, state)
    return _loss(model, xs, state, lose)


def _while(model, xs, state, lose=()):
    return xs, jax.lax.fori_loop(0, 3, lambda _, s: _loss(model, xs, s)[1], state)


def _part(model, xs, state, lose=()):
    """Each layer by itself, on its part of the state."""
    for name in ("first", "second"):
        layer = getattr(model, name)
        vmapped = jax.vmap(layer, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
        xs, part = vmapped(xs, state.substate(layer))
        if name not in lose:
            state = state.update(part)
    return xs, state


WAYS = {
    "vmap": _loss,
    "jit": _jit,
    "filter_jit": eqx_filter.filter_jit(_loss),
    "scan": _scan,
    "cond": _cond,
    "grad": _grad,
    "filter_jit of grad": eqx_filter.filter_jit(_grad),
    "grad of checkpoint": _remat,
    "two calls": _twice,
    "substate": _part,
}


@pytest.mark.parametrize("mode", ["batch", "ema"])
@pytest.mark.parametrize("way", WAYS)
def test_a_function_that_returns_its_state_is_right(way, mode):
    model, state = _make(mode)
    # It is looked at before it runs, so it need not run.
    out = eqx_filter.filter_eval_shape(eqx_nn.check_state(WAYS[way]), model, XS, state)
    assert any(isinstance(node, eqx_nn.State) for node in out)


def test_what_comes_out_is_the_functions_own_result():
    model, state = _make()
    expected = _loss(model, XS, _copy(state))
    found = eqx_nn.check_state(_loss)(model, XS, state)
    for a, b in zip(*map(jax.tree.leaves, (expected, found)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("way", WAYS)
def test_the_layer_whose_update_is_lost_inside_is_named(way, layer):
    model, state = _make()
    assert _lost(WAYS[way], model, XS, state, (layer,)) == {layer}


@pytest.mark.parametrize("mode", ["batch", "ema"])
@pytest.mark.parametrize("way", [*WAYS, "while"])
def test_a_state_that_is_not_returned_is_found(way, mode):
    model, state = _make(mode)
    fn = (WAYS | {"while": _while})[way]
    assert _lost(lambda *args: fn(*args)[0], model, XS, state) == {"first", "second"}


def test_values_read_from_a_state_do_not_stand_for_it():
    counter, state = eqx_nn.make_with_state(Counter)()

    def fn(state):
        state = counter(state)
        return state.get(counter.calls)

    assert _lost(fn, state) == {"Counter"}


class Counter(eqx_core.Module):
    """Count the calls."""

    calls: eqx_nn.StateIndex

    def __init__(self):
        self.calls = eqx_nn.StateIndex(jnp.array(0))

    def __call__(self, state):
        return state.set(self.calls, state.get(self.calls) + 1)


@pytest.mark.parametrize("transform", [jax.jit, eqx_filter.filter_jit, lambda fn: fn])
def test_an_old_state_used_once_more_is_found_through_a_copy(transform):
    counter, state = eqx_nn.make_with_state(Counter)()
    step = transform(lambda state: counter(_copy(state)))
    step(state)  # What has been compiled before is looked at too.

    def fn(state):
        lost = step(state)
        return step(state), lost.get(counter.calls)

    for _ in range(2):
        assert _lost(fn, state) == {"Counter"}
    assert eqx_nn.check_state(lambda state: step(step(state)))(state).get(counter.calls) == 2


def test_an_overwritten_value_is_not_lost():
    counter, state = eqx_nn.make_with_state(Counter)()
    state = eqx_nn.check_state(lambda s: s.set(counter.calls, 1).set(counter.calls, 5))(state)
    assert state.get(counter.calls) == 5


def test_what_is_traced_more_than_once_is_looked_at_once():
    counter, state = eqx_nn.make_with_state(Counter)()

    @jax.custom_vjp
    def f(x, state):
        return x, counter(state)

    f.defvjp(lambda x, s: (f(x, s), None), lambda _, ct: (ct[0], None))

    def scanned(state):
        # The carry turns from weakly typed to not, so JAX traces the body twice.
        body = lambda carry, _: ((carry[0] + jnp.ones(()), counter(carry[1])), None)  # noqa: E731
        return jax.lax.scan(body, (0.0, state), length=3)[0]

    assert eqx_nn.check_state(scanned)(_copy(state))[1].get(counter.calls) == 3
    assert eqx_nn.check_state(f)(1.0, _copy(state))[1].get(counter.calls) == 1


def test_inference_and_functions_without_state_are_right():
    model, state = _make()
    model = eqx_nn.inference_mode(model)
    assert eqx_nn.check_state(lambda x: model(x, state)[0])(XS[0]).shape == (3,)
    assert eqx_nn.check_state(lambda x: x)(1) == 1


def test_states_among_other_things_count_wherever_they_are():
    counter, state = eqx_nn.make_with_state(Counter)()
    out = eqx_nn.check_state(lambda s: {"a": [1, "text", counter(s)], "b": jnp.ones(2)})(state)
    assert out["a"][1] == "text"


def test_typed_keys_are_followed_too():
    index, state = eqx_nn.make_with_state(eqx_nn.StateIndex)(jr.key(0))
    with pytest.raises(RuntimeError, match="loses what was written to `StateIndex`"):
        eqx_nn.check_state(lambda s: (s.set(index, jr.key(1)), 1)[1])(_copy(state))
    assert eqx_nn.check_state(lambda s: s.set(index, jr.key(1)))(state).get(index) == jr.key(1)


def test_the_message_says_what_to_do():
    model, state = _make()
    message = (
        r"`check_state\(fn\)` must be given a function that returns every state that it updates; `_loss` loses what was "
        r"written to `Model.first.batch_counter`, `Model.first.batch_state_index`. Pass each new state on"
    )
    with pytest.raises(RuntimeError, match=message):
        eqx_nn.check_state(_loss)(model, XS, state, ("first",))


def test_nothing_is_left_behind_in_functions_that_are_not_checked():
    counter, state = eqx_nn.make_with_state(Counter)()
    before = str(jax.make_jaxpr(counter.__call__)(state))
    eqx_nn.check_state(counter.__call__)(_copy(state))
    assert str(jax.make_jaxpr(counter.__call__)(state)) == before
    assert "name" not in before


PROGRAM = """
import jax, jax.numpy as jnp, eqx_filter, eqx_nn
norm, state = eqx_nn.make_with_state(eqx_nn.BatchNorm)(3, "batch")
forward = jax.vmap(norm, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
print(eqx_filter.filter_jit(forward)(jnp.ones((4, 3)), state)[0].shape)
try:
    eqx_filter.filter_jit(lambda x: forward(x, state)[0])(jnp.ones((4, 3)))
except RuntimeError as error:
    print("BatchNorm.batch_counter" in str(error))
"""


@pytest.mark.parametrize(("value", "expected"), [("1", "(4, 3)\nTrue\n"), ("0", "(4, 3)\n")])
def test_the_environment_checks_each_function_that_is_compiled(value, expected):
    environment = os.environ | {"EQX_CHECK_STATE": value}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (expected, 0), done.stderr
