"""A program as users of Equinox write them. It prints what it computes, to be compared between libraries."""

import functools
import pathlib
import sys
import tempfile

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax


def show(name, *trees):
    """Print the sum and the absolute sum of all numbers in the trees, and their structure in short."""
    leaves = [x for x in jax.tree.leaves(trees) if eqx.is_inexact_array(x)]
    total = sum(float(jnp.sum(x)) for x in leaves)
    size = sum(float(jnp.sum(jnp.abs(x))) for x in leaves)
    print(f"{name}: {len(leaves)} arrays, {sum(x.size for x in leaves)} numbers, {total:.3f} {size:.3f}")


@eqx.filter_value_and_grad
def mean_squared_error(model, x, y):
    return jnp.mean((jax.vmap(model)(x) - y) ** 2)


def train(model, x, y, steps=20):
    optimiser = optax.adam(1e-2)

    @eqx.filter_jit
    def step(model, state):
        loss, grads = mean_squared_error(model, x, y)
        updates, state = optimiser.update(grads, state, model)
        return eqx.apply_updates(model, updates), state, loss

    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    for _ in range(steps):
        model, state, loss = step(model, state)
    return model, loss


def perceptron():
    x = jnp.linspace(-1.0, 1.0, 16)[:, None]
    model, loss = train(eqx.nn.MLP(1, 1, 8, 2, jax.nn.tanh, key=jr.PRNGKey(0)), x, jnp.sin(3 * x))
    show("perceptron", model, loss)
    print(model.layers[0], model.in_size, model.depth)
    print(eqx.tree_equal(model, jax.tree.map(lambda leaf: leaf, model)), model == model, type(model.layers).__name__)


def frozen_layer():
    model = eqx.nn.MLP(2, 1, 4, 1, key=jr.PRNGKey(1))
    trained = jax.tree.map(lambda _: False, model)
    trained = eqx.tree_at(lambda m: (m.layers[-1].weight, m.layers[-1].bias), trained, (True, True))
    moving, still = eqx.partition(model, trained)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(moving, still, x):
        return jnp.sum(jax.vmap(eqx.combine(moving, still))(x) ** 2)

    grads = gradient(moving, still, jnp.ones((3, 2)))
    print("frozen:", grads.layers[0].weight is None, grads.layers[-1].weight.shape)
    show("frozen layer", eqx.apply_updates(model, grads))


class Recurrent(eqx.Module):
    cell: eqx.nn.GRUCell
    read_out: eqx.nn.Linear
    hidden_size: int = eqx.field(static=True)

    def __init__(self, in_size, hidden_size, *, key):
        keys = jr.split(key)
        self.cell = eqx.nn.GRUCell(in_size, hidden_size, key=keys[0])
        self.read_out = eqx.nn.Linear(hidden_size, "scalar", key=keys[1])
        self.hidden_size = hidden_size

    def __call__(self, xs):
        last, _ = jax.lax.scan(lambda h, x: (self.cell(x, h), None), jnp.zeros(self.hidden_size), xs)
        return self.read_out(last)


def recurrent_network():
    xs = jr.normal(jr.PRNGKey(2), (8, 5, 3))
    model, loss = train(Recurrent(3, 4, key=jr.PRNGKey(3)), xs, jnp.sum(xs, axis=(1, 2)))
    show("recurrent", model, loss)


class Convolutional(eqx.Module):
    layers: list

    def __init__(self, key):
        keys = jr.split(key)
        self.layers = [
            eqx.nn.Conv2d(1, 4, 3, padding=1, key=keys[0]),
            eqx.nn.MaxPool2d(2, 2),
            jax.nn.relu,
            jnp.ravel,
            eqx.nn.Dropout(0.5),
            eqx.nn.Linear(64, 3, key=keys[1]),
        ]

    def __call__(self, x, key=None):
        for layer in self.layers:
            x = layer(x, key=key) if isinstance(layer, eqx.nn.Dropout) else layer(x)
        return x


def convolutional_network():
    images = jr.normal(jr.PRNGKey(4), (4, 1, 8, 8))
    model = Convolutional(jr.PRNGKey(5))
    keys = jr.split(jr.PRNGKey(6), 4)
    show("convolutional, training", eqx.filter_jit(eqx.filter_vmap(model))(images, keys))
    still = eqx.tree_inference(model, value=True)
    show("convolutional, inference", jax.vmap(still)(images))


def stateful():
    model, state = eqx.nn.make_with_state(eqx.nn.Sequential)(
        [eqx.nn.Linear(3, 4, key=jr.PRNGKey(7)), eqx.nn.BatchNorm(4, axis_name="batch", mode="batch")]
    )
    x = jr.normal(jr.PRNGKey(8), (6, 3))

    @eqx.filter_jit
    def forward(model, state, x):
        return jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))(x, state)

    out, state = forward(model, state, x)
    out, state = forward(model, state, x + 1)
    show("stateful", out, state)
    out, _ = forward(eqx.nn.inference_mode(model), state, x)
    show("stateful, inference", out)


def ensemble():
    @eqx.filter_vmap
    def make(key):
        return eqx.nn.MLP(2, 2, 4, 1, key=key)

    models = make(jr.split(jr.PRNGKey(9), 3))

    @eqx.filter_vmap(in_axes=(eqx.if_array(0), None))
    def evaluate(model, x):
        return model(x)

    show("ensemble", evaluate(models, jnp.ones(2)))
    grads = eqx.filter_grad(lambda models, x: jnp.sum(evaluate(models, x)))(models, jnp.ones(2))
    show("gradient of an ensemble", grads)


def serialisation(folder):
    model = Recurrent(3, 4, key=jr.PRNGKey(10))
    eqx.tree_serialise_leaves(folder / "model.eqx", model)
    like = eqx.filter_eval_shape(functools.partial(Recurrent, 3, 4), key=jr.PRNGKey(0))
    loaded = eqx.tree_deserialise_leaves(folder / "model.eqx", like)
    print("serialisation:", eqx.tree_equal(model, loaded))


def errors():
    @eqx.filter_jit
    def root(x):
        return jnp.sqrt(eqx.error_if(x, x < 0, "must be positive"))

    show("error_if", root(jnp.array(4.0)))
    try:
        jax.block_until_ready(root(jnp.array(-4.0)))
    except eqx.EquinoxRuntimeError as e:
        print("error_if:", "must be positive" in str(e))
    try:
        model = eqx.nn.Identity()
        model.x = 1
    except AttributeError as e:
        print("frozen:", type(e).__name__)


def main():
    perceptron()
    frozen_layer()
    recurrent_network()
    convolutional_network()
    stateful()
    ensemble()
    with tempfile.TemporaryDirectory() as folder:
        serialisation(pathlib.Path(folder))
    errors()
    return 0


if __name__ == "__main__":
    sys.exit(main())
