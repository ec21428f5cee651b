"""Two layers, a dropout between them, a step of AdamW."""

import haiku as hk
import jax
import jax.numpy as jnp
import optax


def model_of(x, train=False):
    x = jax.nn.relu(hk.Linear(16)(x))
    if train:
        x = hk.dropout(hk.next_rng_key(), 0.1, x)
    return hk.Linear(1)(x)


@jax.jit
def step(params, state, x, y, key):
    def loss_of(params):
        return jnp.mean((model.apply(params, key, x, train=True) - y) ** 2)

    loss, grad = jax.value_and_grad(loss_of)(params)
    updates, state = optimiser.update(grad, state, params)
    return optax.apply_updates(params, updates), state, loss


x, y = jnp.ones((4, 8)), jnp.ones((4, 1))
model = hk.transform(model_of)
params = model.init(jax.random.key(0), x)
optimiser = optax.adamw(1e-3)
state = optimiser.init(params)
params, state, loss = step(params, state, x, y, jax.random.key(1))
assert model.apply(params, None, x).shape == (4, 1)
