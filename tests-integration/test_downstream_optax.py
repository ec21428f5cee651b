"""optax over Modules: every family of optimisers, masks, and one optimiser for each part of a model."""

import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
optax = pytest.importorskip("optax", reason="optax is not installed")

X = jr.normal(jr.key(0), (16, 3))
Y = X @ jnp.array([[1.0], [-2.0], [0.5]]) + 0.3

OPTIMISERS = {
    "sgd": lambda: optax.sgd(0.05),
    "momentum": lambda: optax.sgd(0.02, momentum=0.9, nesterov=True),
    "adam": lambda: optax.adam(0.05),
    "adamw": lambda: optax.adamw(0.05, weight_decay=1e-3),
    "amsgrad": lambda: optax.amsgrad(0.05),
    "adamax": lambda: optax.adamax(0.05),
    "adabelief": lambda: optax.adabelief(0.05),
    "adafactor": lambda: optax.adafactor(0.05, min_dim_size_to_factor=2),
    "adagrad": lambda: optax.adagrad(0.2),
    "adadelta": lambda: optax.adadelta(5.0),
    "lamb": lambda: optax.lamb(0.05),
    "lars": lambda: optax.lars(3.0),
    "lion": lambda: optax.lion(0.02),
    "nadam": lambda: optax.nadam(0.05),
    "novograd": lambda: optax.novograd(0.05),
    "radam": lambda: optax.radam(0.05),
    "rmsprop": lambda: optax.rmsprop(0.02),
    "rprop": lambda: optax.rprop(0.01),
    "sm3": lambda: optax.sm3(0.2),
    "yogi": lambda: optax.yogi(0.05),
    "fromage": lambda: optax.fromage(0.02),
    "noisy_sgd": lambda: optax.noisy_sgd(0.05, key=0),
    "sign_sgd": lambda: optax.sign_sgd(0.02),
    "optimistic": lambda: optax.optimistic_gradient_descent(0.05),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05)),
    "accumulated": lambda: optax.MultiSteps(optax.adam(0.1), 2),
    "scheduled": lambda: optax.adam(optax.cosine_decay_schedule(0.1, 200)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.05),
    "lookahead of parameters": lambda: optax.apply_if_finite(optax.adam(0.05), 3),
    "schedule-free": lambda: optax.contrib.schedule_free_adamw(0.05),
    "muon": lambda: optax.contrib.muon(0.05),
    "prodigy": lambda: optax.contrib.prodigy(1.0),
    "adamaxw": lambda: optax.adamaxw(0.05),
    "adan": lambda: optax.adan(0.05),
    "optimistic adam": lambda: optax.optimistic_adam_v2(0.05),
    "signum": lambda: optax.signum(0.02),
    "acprop": lambda: optax.contrib.acprop(0.02),
    "ademamix": lambda: optax.contrib.ademamix(0.02),
    "simplified ademamix": lambda: optax.contrib.simplified_ademamix(0.02),
    "adopt": lambda: optax.contrib.adopt(0.05),
    "cocob": lambda: optax.contrib.cocob(),
    "d-adaptation": lambda: optax.contrib.dadapt_adamw(1.0),
    "dog": lambda: optax.contrib.dog(1.0, ("distance", 0.05)),
    "dowg": lambda: optax.contrib.dowg(1.0),
    "madgrad": lambda: optax.contrib.madgrad(0.02),
    "schedule-free sgd": lambda: optax.contrib.schedule_free_sgd(0.05),
    # Its own update takes nothing that it does not use, though its type says so.
    "sharpness-aware": lambda: optax.GradientTransformation(
        *optax.contrib.sam(optax.adam(0.1), optax.sgd(0.01), sync_period=2)
    ),
    "momo, given the loss": lambda: optax.contrib.momo_adam(0.05),
    "polyak, given the loss": lambda: optax.polyak_sgd(0.5),
}


class Model(eqx.Module):
    """Two layers and things that are no parameters: an activation, a name, a static size and an empty place."""

    first: eqx.nn.Linear
    second: eqx.nn.Linear
    activation: object
    name: str
    nothing: None
    size: int = eqx.field(static=True)

    def __init__(self, key):
        keys = jr.split(key)
        self.first = eqx.nn.Linear(3, 8, key=keys[0])
        self.second = eqx.nn.Linear(8, 1, key=keys[1])
        self.activation = jax.nn.tanh
        self.name = "model"
        self.nothing = None
        self.size = 8

    def __call__(self, x):
        return self.second(self.activation(self.first(x)))


@eqx.filter_value_and_grad
def loss_of(model):
    return jnp.mean((jax.vmap(model)(X) - Y) ** 2)


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # As optax needs.
        yield


def train(optimiser, model, steps=60):
    optimiser = optax.with_extra_args_support(optimiser)

    @eqx.filter_jit
    def step(model, state):
        loss, grads = loss_of(model)
        params = eqx.filter(model, eqx.is_inexact_array)
        updates, state = optimiser.update(grads, state, params, value=loss)
        return eqx.apply_updates(model, updates), state, loss

    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    losses = []
    for _ in range(steps):
        model, state, loss = step(model, state)
        losses.append(float(loss))
    return model, state, losses


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_family_trains_a_module(name):
    before = Model(jr.key(1))
    model, state, losses = train(OPTIMISERS[name](), before)
    assert losses[-1] < 0.8 * losses[0]
    assert (model.activation, model.name, model.nothing, model.size) == (jax.nn.tanh, "model", None, 8)
    assert jax.tree.structure(model) == jax.tree.structure(before)
    # The state holds Modules too, so it can be saved and flattened as a model can.
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(eqx.filter(state, eqx.is_array)))


def test_gradients_of_single_examples_are_clipped():
    """Each example's gradient is as long as 1 at most, and there is no noise: so is their mean."""
    model = Model(jr.key(1))
    grads = jax.vmap(lambda x, y: eqx.filter_grad(lambda m: jnp.sum((m(x) - y) ** 2))(model))(X, 100 * Y)
    optimiser = optax.contrib.differentially_private_aggregate(1.0, 0.0, key=jr.key(0))
    params = eqx.filter(model, eqx.is_inexact_array)
    updates, _ = optimiser.update(grads, optimiser.init(params), params)
    assert isinstance(updates, Model)
    assert 0.1 < optax.tree.norm(updates) <= 1 + 1e-6


def test_line_searches_and_quasi_newton_steps():
    params, static = eqx.partition(Model(jr.key(1)), eqx.is_inexact_array)

    def value_fn(params):
        return loss_of(eqx.combine(params, static))[0]

    optimiser = optax.lbfgs()

    @eqx.filter_jit
    def step(params, state):
        value, grad = jax.value_and_grad(value_fn)(params)
        updates, state = optimiser.update(grad, state, params, value=value, grad=grad, value_fn=value_fn)
        return optax.apply_updates(params, updates), state, value

    state = optimiser.init(params)
    values = []
    for _ in range(15):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[-1] < 0.05 * values[0]


def test_a_mask_of_a_module_spares_what_it_leaves_out():
    before = Model(jr.key(1))
    params = eqx.filter(before, eqx.is_inexact_array)
    mask = jax.tree.map(lambda leaf: leaf.ndim == 2, params)
    decay = optax.chain(optax.masked(optax.add_decayed_weights(0.1), mask), optax.scale(-1.0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = decay.update(zeros, decay.init(params), params)
    after = eqx.apply_updates(before, updates)
    np.testing.assert_allclose(after.first.weight, 0.9 * before.first.weight, rtol=1e-5)
    assert eqx.tree_equal(after.first.bias, before.first.bias)


def test_a_mask_may_be_a_function():
    before = Model(jr.key(1))

    def mask(tree):
        return jax.tree.map(lambda leaf: leaf.ndim == 1, tree)

    freeze = optax.chain(optax.sgd(0.1), optax.masked(optax.set_to_zero(), mask))
    model, _, _ = train(freeze, before, steps=2)
    assert eqx.tree_equal(model.first.bias, before.first.bias)
    assert not eqx.tree_equal(model.first.weight, before.first.weight)


def test_each_part_has_an_optimiser_of_its_own():
    before = Model(jr.key(1))
    params = eqx.filter(before, eqx.is_inexact_array)
    labels = jax.tree.map(lambda _: "frozen", params)
    labels = eqx.tree_at(lambda m: (m.second.weight, m.second.bias), labels, ("trained", "trained"))
    # In a function, because the tree of labels is a model, and so callable itself.
    optimiser = optax.multi_transform({"frozen": optax.set_to_zero(), "trained": optax.adam(0.05)}, lambda _: labels)
    model, _, losses = train(optimiser, before)
    assert eqx.tree_equal(model.first, before.first)
    assert losses[-1] < 0.8 * losses[0]


def test_states_and_models_are_kept_together_by_their_structure():
    optimiser = optax.adam(0.05)
    model, state, _ = train(optimiser, Model(jr.key(1)), steps=3)
    moments = state[0].mu
    assert isinstance(moments, Model)
    assert moments.first.weight.shape == model.first.weight.shape
    assert eqx.tree_equal(jax.jit(lambda s: s)(state), state)


def test_averages_of_a_model():
    model = Model(jr.key(1))
    params = eqx.filter(model, eqx.is_inexact_array)
    other = jax.tree.map(lambda x: x + 1, params)
    averaged = optax.incremental_update(other, params, step_size=0.25)
    np.testing.assert_allclose(averaged.first.weight, params.first.weight + 0.25, rtol=1e-5)
