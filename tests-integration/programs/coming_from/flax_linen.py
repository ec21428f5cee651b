"""Two layers, a dropout between them, a step of AdamW."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


class Model(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(nn.Dense(16)(x))
        x = nn.Dropout(0.1, deterministic=not train)(x)
        return nn.Dense(1)(x)


@jax.jit
def step(params, state, x, y, key):
    def loss_of(params):
        predicted = model.apply(params, x, train=True, rngs={"dropout": key})
        return jnp.mean((predicted - y) ** 2)

    loss, grad = jax.value_and_grad(loss_of)(params)
    updates, state = optimiser.update(grad, state, params)
    return optax.apply_updates(params, updates), state, loss


x, y = jnp.ones((4, 8)), jnp.ones((4, 1))
model = Model()
params = model.init(jax.random.key(0), x)
optimiser = optax.adamw(1e-3)
state = optimiser.init(params)
params, state, loss = step(params, state, x, y, jax.random.key(1))
assert model.apply(params, x).shape == (4, 1)
