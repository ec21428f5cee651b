from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
import eqx_filter
import eqx_nn


class Counter(eqx_nn.StatefulLayer):
    """Count the calls, and remember the last input and its negative."""

    calls: eqx_nn.StateIndex
    last: eqx_nn.StateIndex

    def __init__(self, size=2):
        self.calls = eqx_nn.StateIndex(jnp.array(0))
        self.last = eqx_nn.StateIndex((jnp.zeros(size), jnp.zeros(size)))

    def __call__(self, x, state, *, key=None):
        state = state.set(self.calls, state.get(self.calls) + 1)
        return 2 * x, state.set(self.last, (x, -x))


class Pair(eqx_core.Module):
    first: Any
    second: Any


def _make(size=2):
    return eqx_nn.make_with_state(Counter)(size)


def test_values_are_read_and_replaced():
    counter, state = _make()
    for calls in range(1, 4):
        x, state = counter(jnp.ones(2), state)
        assert state.get(counter.calls) == calls
    np.testing.assert_array_equal(x, [2, 2])
    np.testing.assert_array_equal(state.get(counter.last), [[1, 1], [-1, -1]])


def test_a_state_is_the_peers(peer, same_arrays):
    class Theirs(peer.StatefulLayer):
        calls: peer.StateIndex
        last: peer.StateIndex

        def __init__(self):
            self.calls = peer.StateIndex(jnp.array(0))
            self.last = peer.StateIndex((jnp.zeros(2), jnp.zeros(2)))

        def __call__(self):
            pass

    Theirs.__name__ = "Counter"
    their_model, theirs = peer.make_with_state(lambda: [Theirs(), Theirs()])()
    our_model, ours = eqx_nn.make_with_state(lambda: [Counter(), Counter()])()
    assert our_model[1].calls.marker == their_model[1].calls.marker == "list[1].calls"
    assert [type(leaf) for leaf in jax.tree.leaves(our_model)] == []
    same_arrays(jax.tree.leaves(ours), jax.tree.leaves(theirs))


def test_markers_are_the_paths_in_the_model():
    model, state = eqx_nn.make_with_state(lambda: Pair([Counter()], {"a": Counter()}))()
    markers = {index.marker for index in (model.first[0].calls, model.second["a"].last)}
    assert markers == {"Pair.first[0].calls", "Pair.second['a'].last"}
    paths = [jtu.keystr(path) for path, _ in jtu.tree_flatten_with_path(state)[0]]
    assert paths[0] == "['Pair.first[0].calls']"
    assert repr(eqx_nn.make_with_state(eqx_nn.StateIndex)(jnp.zeros(2))) == (
        "(StateIndex(marker='StateIndex', init=_Deleted(axes=(1,))), State(StateIndex=f32[2]))"
    )


def test_a_replaced_state_cannot_be_used():
    counter, state = _make()
    new = state.set(counter.calls, jnp.array(1))
    assert repr(state) == "State(~old~)"
    uses = {
        "get": lambda: state.get(counter.calls),
        "set": lambda: state.set(counter.calls, jnp.array(1)),
        "substate": lambda: state.substate(counter),
        "update": lambda: state.update(new),
        "tree_flatten": lambda: jax.tree.leaves(state),
    }
    for name, use in uses.items():
        with pytest.raises(ValueError, match=rf"`State.{name}` must not be used on an old state"):
            use()
    newest = new.update(new.substate(counter))
    with pytest.raises(ValueError, match="old state"):
        new.get(counter.calls)
    assert newest.get(counter.calls) == 1


def test_a_copy_made_before_can_be_used():
    counter, state = _make()
    copy = jax.tree.map(lambda x: x, state)
    counter(jnp.ones(2), state)
    assert copy.get(counter.calls) == 0


def test_a_failed_replacement_leaves_the_state_as_it_was():
    counter, state = _make()
    with pytest.raises(ValueError, match="must have the structure"):
        state.set(counter.calls, jnp.zeros(2))
    assert state.get(counter.calls) == 0


@pytest.mark.parametrize("value", [jnp.array(1, jnp.int32), jnp.array(1), 1, np.int32(1)])
def test_a_change_of_weak_type_is_no_change(value):
    counter, state = _make()
    before = jax.eval_shape(lambda s: s, state)
    state = state.set(counter.calls, value)
    assert jax.eval_shape(lambda s: s, state) == before or jax.tree.all(
        jax.tree.map(lambda a, b: (a.shape, a.dtype, a.weak_type) == (b.shape, b.dtype, b.weak_type), before, state)
    )
    _, state = jax.lax.scan(lambda s, x: (counter(x, s)[1], None), state, jnp.ones((3, 2)))[::-1]
    assert state.get(counter.calls) == 4


@pytest.mark.parametrize("value", [jnp.zeros(2), jnp.array(1.0), (jnp.array(1),), None])
def test_a_value_unlike_the_one_before_is_refused(value):
    counter, state = _make()
    message = r"`State.set\(value=...\)` must have the structure, shapes and dtypes of the value before, `i32\[\]`, at `Counter.calls`"
    with pytest.raises(ValueError, match=message):
        state.set(counter.calls, value)


def test_keys_are_state_indices_of_this_model():
    counter, state = _make()
    for use in (state.get, lambda index: state.set(index, 1)):
        with pytest.raises(ValueError, match=r"\(index=...\)` must be a `StateIndex`; got `str`"):
            use("calls")
    other, other_state = eqx_nn.make_with_state(eqx_nn.StateIndex)(jnp.array(0))
    for use in (state.get, lambda index: state.set(index, 1), state.substate):
        with pytest.raises(KeyError, match="there is no value for `StateIndex`; the state belongs to another model"):
            use(other)
    with pytest.raises(ValueError, match="must have no values but those of this state; got others, at StateIndex"):
        state.update(other_state)
    with pytest.raises(TypeError, match=r"`State.update\(substate=...\)` must be a `State`; got `dict`"):
        state.update({})
    assert state.get(counter.calls) == 0


def test_a_part_goes_its_own_way_and_comes_back():
    model, state = eqx_nn.make_with_state(lambda: Pair(Counter(), Counter()))()
    part = state.substate(model.second)
    assert len(jax.tree.leaves(part)) == 3
    _, part = model.second(jnp.ones(2), part)
    state = state.update(part)
    assert (state.get(model.first.calls), state.get(model.second.calls)) == (0, 1)


def test_functions_are_no_initial_values():
    with pytest.raises(
        ValueError, match=r"`StateIndex\(init=...\)` must be the initial value itself; got the function"
    ):
        eqx_nn.StateIndex(lambda: jnp.array(0))


def test_a_model_without_initial_values_makes_no_state():
    counter, _ = _make()
    for model in (counter, eqx_nn.delete_init_state(Counter())):
        with pytest.raises(ValueError, match=r"`State\(model\)` must be given a model that holds its initial values"):
            eqx_nn.State(model)


def test_a_state_made_by_hand_can_be_shown():
    counter = Counter()
    state = eqx_nn.State(counter)
    assert repr(state) == "State(<unnamed>=i32[], <unnamed>=(f32[2], f32[2]))"
    assert state.get(counter.calls) == 0


def test_indices_made_apart_are_different():
    assert eqx_nn.StateIndex(0) != eqx_nn.StateIndex(0)
    one, two = Counter(), Counter()
    assert jtu.tree_structure(one) != jtu.tree_structure(two)


def test_models_built_alike_have_one_structure_and_interchangeable_states():
    (one, state), (two, same) = _make(), jax.jit(_make)()
    assert jtu.tree_structure((one, state)) == jtu.tree_structure((two, same))
    assert one == two
    _, state = two(jnp.ones(2), state)
    assert state.get(one.calls) == 1


def test_states_go_through_jit_scan_grad_and_shapes():
    counter, state = _make()
    _, state = jax.jit(lambda c, s, x: c(x, s))(counter, state, jnp.ones(2))
    assert state.get(counter.calls) == 1

    @jax.grad
    def gradient(x, state):
        y, state = counter(x, state)
        return (y * state.get(counter.last)[0]).sum()

    np.testing.assert_array_equal(gradient(jnp.ones(2), state), [4, 4])
    shapes = jax.eval_shape(_make)[1]
    assert shapes.get(counter.last)[0].shape == (2,)
    _, (leaf, *_) = shapes, jax.tree.leaves(shapes)
    assert leaf.dtype == jnp.int32


@given(updates=st.lists(st.integers(-5, 5), max_size=6))
def test_the_last_value_set_is_the_one_got(updates):
    counter, state = _make()
    for update in updates:
        state = state.set(counter.calls, update)
    assert state.get(counter.calls) == ([0, *updates])[-1]


def test_a_state_batched_by_mistake_is_reported_at_the_next_use():
    model, state = eqx_nn.make_with_state(lambda: Pair(Counter(), None))()
    xs = jnp.ones((4, 2))
    _, batched = jax.vmap(model.first, in_axes=(0, None))(xs, state)
    message = r"must find an array with 0 axes at `Pair.first.calls`; got `i32\[4\]`.*out_axes=\(0, None\)"
    with pytest.raises(ValueError, match=message):
        model.first(jnp.ones(2), batched)
    with pytest.raises(ValueError, match=message):
        jax.vmap(model.first, in_axes=(0, None))(xs, batched)


def test_a_state_mapped_on_purpose_is_legal():
    counter, state = _make()
    xs = jnp.ones((4, 2))
    _, batched = jax.vmap(counter, in_axes=(0, None))(xs, state)
    _, batched = jax.vmap(counter)(xs, batched)
    np.testing.assert_array_equal(jax.vmap(lambda s: s.get(counter.calls))(batched), [2] * 4)


def test_many_layers_made_at_once_have_a_substate_to_be_mapped():
    model, state = eqx_nn.make_with_state(lambda: Pair(jax.vmap(lambda _: Counter())(jnp.arange(3)), Counter()))()
    part = state.substate(model.first)
    _, part = jax.vmap(lambda c, x, s: c(x, s))(model.first, jnp.ones((3, 2)), part)
    state = state.update(part)
    np.testing.assert_array_equal(jax.tree.leaves(state.substate(model.first))[0], [1, 1, 1])
    many, their_state = jax.vmap(lambda _: _make())(jnp.arange(3))
    _, their_state = jax.vmap(lambda c, x, s: c(x, s))(many, jnp.ones((3, 2)), their_state)
    np.testing.assert_array_equal(jax.tree.leaves(their_state)[0], [1, 1, 1])


def test_typed_keys_can_be_remembered():
    index, state = eqx_nn.make_with_state(eqx_nn.StateIndex)(jr.key(0))
    state = state.set(index, jr.key(1))
    assert jr.key_data(state.get(index)).tolist() == jr.key_data(jr.key(1)).tolist()


def test_a_model_without_state_has_an_empty_one():
    model, state = eqx_nn.make_with_state(eqx_nn.Identity)()
    assert model == eqx_nn.Identity()
    assert jax.tree.leaves(state) == []
    assert repr(state) == "State()"


@pytest.mark.parametrize("donate", ["none", "all"])
def test_a_filtered_step_takes_the_state_and_returns_it(donate):
    counter, state = _make()

    @eqx_filter.filter_jit(donate=donate)
    def step(counter, x, state):
        def loss(x, state):
            y, state = counter(x, state)
            return (y**2).sum(), state

        gradient, state = eqx_filter.filter_grad(loss, has_aux=True)(x, state)
        return gradient, state

    for calls in (1, 2, 3):
        gradient, state = step(counter, jnp.ones(2), state)
        assert state.get(counter.calls) == calls
    np.testing.assert_array_equal(gradient, [8, 8])


def test_a_state_is_the_carry_of_a_loop_under_grad_and_vmap():
    counter, state = _make()

    @jax.jit
    @jax.vmap
    def run(x):
        def loss(x):
            def step(state, scale):
                y, state = counter(scale * x, state)
                return state, y.sum()

            last, ys = jax.lax.scan(step, jax.tree.map(lambda leaf: leaf, state), jnp.arange(3.0))
            return ys.sum(), last

        return jax.grad(loss, has_aux=True)(x)

    gradient, states = run(jnp.ones((4, 2)))
    np.testing.assert_array_equal(gradient, np.full((4, 2), 6))
    np.testing.assert_array_equal(jax.tree.leaves(states)[0], [3] * 4)


def test_an_ensemble_made_by_filter_vmap_has_states_of_its_own():
    @eqx_filter.filter_vmap
    def make(key):
        return eqx_nn.make_with_state(lambda: Pair(Counter(), eqx_nn.Linear(2, 2, key=key)))()

    models, states = make(jr.split(jr.key(0), 3))

    @eqx_filter.filter_vmap
    def call(model, x, state):
        x, state = model.first(x, state)
        return model.second(x), state

    out, states = call(models, jnp.ones((3, 2)), states)
    assert out.shape == (3, 2)
    np.testing.assert_array_equal(jax.tree.leaves(states)[0], [1, 1, 1])
