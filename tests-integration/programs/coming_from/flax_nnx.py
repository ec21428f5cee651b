"""Two layers, a dropout between them, a step of AdamW."""

import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 16, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jax.nn.relu(self.first(x))))


@nnx.jit
def step(model, optimiser, x, y):
    loss, grad = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimiser.update(model, grad)
    return loss


x, y = jnp.ones((4, 8)), jnp.ones((4, 1))
model = Model(nnx.Rngs(0))
optimiser = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param)
model.train()
loss = step(model, optimiser, x, y)
model.eval()
assert model(x).shape == (4, 1)
