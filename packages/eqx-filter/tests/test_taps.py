"""`debug.taps`: what it returns is what NumPy computes, wherever the tapped part is called."""

from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_checkpoint, filter_grad, filter_jit, filter_vmap
from eqx_filter.debug import taps

X = np.array([0.5, -1.0, 2.0], np.float32)


class Layer(eqx_core.Module):
    weight: jax.Array
    activation: Any = jnp.tanh

    def __call__(self, x):
        return self.activation(self.scores(x))

    def scores(self, x):
        return self.weight @ x


class Model(eqx_core.Module):
    layers: tuple
    head: Layer
    scale: float = 2.0

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.scale * self.head(x)

    def encode(self, x):
        return self.layers[0](x)


def jit(fun):
    """Compile by JAX what is a Module, which `jax.jit` would hash."""
    return jax.jit(lambda *args: fun(*args))


def layer(seed):
    return Layer(jr.normal(jr.key(seed), (3, 3)))


MODEL = Model((layer(0), layer(1)), layer(2))
STACK = jax.tree.map(lambda *xs: jnp.stack(xs) if eqx_core.is_array(xs[0]) else xs[0], *map(layer, range(4)))
ALL = ("layers[*]", "head")


def np_layer(layer, x):
    return np.tanh(np.asarray(layer.weight) @ x)


def np_model(model, x):
    a = np_layer(model.layers[0], x)
    b = np_layer(model.layers[1], a)
    c = np_layer(model.head, b)
    return 2 * c, {"layers[0]": a, "layers[1]": b, "head": c}


def assert_same(got, expected):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), got, expected)
    jax.tree.map(lambda a, b: a.dtype == b.dtype, got, expected)


@pytest.mark.parametrize("compile_it", [lambda f: f, jit, filter_jit], ids=["eager", "jit", "filter_jit"])
def test_output_and_activations_are_those_of_numpy(compile_it):
    tapped = taps(MODEL, ALL)
    assert_same(compile_it(tapped)(X), np_model(MODEL, X))
    assert_same(compile_it(tapped)(X), np_model(MODEL, X))


def test_under_vmap_there_is_the_axis_of_the_batch():
    xs = np.stack([X, 2 * X, -X])
    each = [np_model(MODEL, x) for x in xs]
    assert_same(jit(jax.vmap(taps(MODEL, ALL)))(xs), jax.tree.map(lambda *a: np.stack(a), *each))
    assert_same(
        jax.vmap(taps(MODEL, ALL), out_axes=(0, 1))(xs)[1],
        jax.tree.map(lambda *a: np.stack(a, 1), *[a for _, a in each]),
    )


def test_under_scan_each_step_returns_its_own():
    def step(x, _):
        out, activations = taps(MODEL, ALL)(x)
        return out, activations

    out, activations = jax.lax.scan(step, X, None, length=3)
    x, each = X, []
    for _ in range(3):
        x, found = np_model(MODEL, x)
        each.append(found)
    assert_same((out, activations), (x, jax.tree.map(lambda *a: np.stack(a), *each)))


def test_gradients_flow_through_activations():
    def loss(model, x):
        out, activations = taps(model, "layers[0]")(x)
        return jnp.sum(out) + jnp.sum(activations["layers[0]"] ** 2)

    def plain(model, x):
        return jnp.sum(model(x)) + jnp.sum(model.layers[0](x) ** 2)

    expected = filter_grad(plain)(MODEL, X)
    for run in (filter_grad(loss), filter_jit(filter_grad(loss))):
        assert_same(run(MODEL, X), expected)
    assert_same(jax.grad(lambda x: loss(MODEL, x))(X), jax.grad(lambda x: plain(MODEL, x))(X))


class Inside(eqx_core.Module):
    """Calls its layer under the transformation of that name."""

    layer: Any
    how: str = eqx_core.field(static=True)

    def __call__(self, x):
        fun = self.layer
        match self.how:
            case "jit":
                return jax.jit(lambda x: fun(x))(x) + 1
            case "filter_jit":
                return filter_jit(fun)(x) + 1
            case "checkpoint":
                return filter_checkpoint(fun)(x) + 1
            case "custom_jvp":
                rule = jax.custom_jvp(lambda x: fun(x))
                rule.defjvp(lambda p, t: (fun(*p), 100 * t[0]))
                return rule(x) + 1
            case "custom_vjp":
                rule = jax.custom_vjp(lambda x: fun(x))
                rule.defvjp(lambda x: (fun(x), None), lambda _, g: (100 * g,))
                return rule(x) + 1
        return fun(x) + 1


WAYS = ["plain", "jit", "filter_jit", "checkpoint", "custom_jvp", "custom_vjp"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("compile_it", [lambda f: f, jit], ids=["eager", "jit"])
def test_parts_under_a_transformation_are_seen(how, compile_it):
    model = Inside(layer(0), how)
    expected = np_layer(model.layer, X)
    assert_same(compile_it(taps(model, "layer"))(X), (expected + 1, {"layer": expected}))
    other = np.float32([1, 2, 3])
    assert_same(
        compile_it(taps(model, "layer", replace={"layer": other}))(X), (other + 1, {"layer": jnp.asarray(other)})
    )
    assert_same(
        compile_it(taps(model, "layer", perturb={"layer": other}))(X),
        (expected + other + 1, {"layer": expected + other}),
    )


@pytest.mark.parametrize("how", WAYS)
def test_derivatives_of_parts_under_a_transformation(how):
    model = Inside(layer(0), how)
    plain = jax.jacobian(lambda x: jnp.tanh(model.layer.weight @ x))(X)
    of_out = 100 * np.eye(3, dtype=np.float32) if how.startswith("custom") else plain
    out, activations = jax.jit(jax.jacrev(taps(model, "layer")))(X)
    assert_same(out, of_out)
    # A rule of one's own is for the result of the function, not for what is inside.
    assert_same(activations["layer"], plain)


class Scanned(eqx_core.Module):
    stack: Layer
    reverse: bool = eqx_core.field(static=True, default=False)

    def __call__(self, x):
        arrays, rest = eqx_filter.partition(self.stack, eqx_core.is_array)

        def step(x, arrays):
            return eqx_filter.combine(arrays, rest)(x), jnp.sum(x)

        return jax.lax.scan(step, x, arrays, reverse=self.reverse)[0]


@pytest.mark.parametrize("reverse", [False, True])
def test_scanned_layers_return_a_stack(reverse):
    x, each = X, [None] * 4
    for i in reversed(range(4)) if reverse else range(4):
        x = each[i] = np_layer(Layer(STACK.weight[i]), x)
    expected = x, {"stack": np.stack(each)}
    for run in (taps(Scanned(STACK, reverse), "stack"), jit(taps(Scanned(STACK, reverse), Layer))):
        assert_same(run(X), expected)


def test_what_a_scan_gets_is_taken_step_by_step():
    model = Scanned(STACK)
    _, activations = taps(model, "stack")(X)
    new = activations["stack"].at[3].set(jnp.array([7.0, 8.0, 9.0]))
    out, again = jax.jit(lambda new: taps(model, "stack", replace={"stack": new})(X))(new)
    assert_same((out, again), (np.float32([7, 8, 9]), {"stack": new}))
    # To perturb one layer changes those behind it, which to replace all does not.
    delta = jnp.zeros((4, 3)).at[1].set(1.0)
    out, _ = taps(model, "stack", perturb={"stack": delta})(X)
    x = X
    for i in range(4):
        x = np_layer(Layer(STACK.weight[i]), x) + np.asarray(delta[i])
    assert_same(out, x)


def test_zeros_to_perturb_by_have_the_gradient_of_the_activations():
    model = Scanned(STACK)

    def loss(delta):
        return jnp.sum(taps(model, "stack", perturb={"stack": delta})(X)[0] ** 2)

    grads = jax.jit(jax.grad(loss))(jnp.zeros((4, 3)))
    xs = [X]
    for i in range(4):
        xs.append(np_layer(Layer(STACK.weight[i]), xs[-1]))
    g = 2 * xs[-1]
    for i in reversed(range(4)):
        np.testing.assert_allclose(grads[i], g, rtol=1e-4, atol=1e-6)
        g = np.asarray(STACK.weight[i]).T @ (g * (1 - xs[i + 1] ** 2))


class Mapped(eqx_core.Module):
    layer: Layer

    def __call__(self, xs, ys):
        over_ys = jax.vmap(self.layer, in_axes=1, out_axes=1)
        return jax.vmap(lambda x: over_ys(x), in_axes=2)(xs) + ys


def test_mapped_parts_return_the_axes_of_the_batches_in_front():
    xs = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    ys = np.zeros((5, 3, 4), np.float32)
    layer_of = np.tanh(np.einsum("ij,jab->bai", np.asarray(MODEL.head.weight), xs))
    for run in (taps(Mapped(MODEL.head), "layer"), jit(taps(Mapped(MODEL.head), "layer"))):
        assert_same(run(xs, ys), (layer_of.transpose(0, 2, 1), {"layer": layer_of}))
    new = jnp.arange(60.0).reshape(5, 4, 3)
    out, _ = taps(Mapped(MODEL.head), "layer", replace={"layer": new})(xs, ys)
    assert_same(out, np.asarray(new).transpose(0, 2, 1))


class Position(eqx_core.Module):
    """One of its layers does not see the batch, and must not be batched either."""

    table: Layer
    layer: Layer

    def __call__(self, xs):
        def one(x):
            position = self.table(jnp.ones(3))
            return self.layer(x + position), position

        return jax.vmap(one, out_axes=(0, None))(xs)


def test_what_does_not_depend_on_the_batch_is_repeated_in_the_activations_alone():
    model = Position(MODEL.head, MODEL.layers[0])
    xs = np.stack([X, 2 * X])
    table = np_layer(model.table, np.ones(3, np.float32))
    rows = np.stack([np_layer(model.layer, x + table) for x in xs])
    out, activations = jit(taps(model, Layer))(xs)
    assert_same((out, activations), ((rows, table), {"table": np.stack([table, table]), "layer": rows}))
    outer = jax.vmap(lambda xs: taps(model, "table")(xs)[1], axis_size=2, in_axes=None)(xs)
    assert outer["table"].shape == (2, 2, 3)


class Branches(eqx_core.Module):
    a: Layer
    b: Layer

    def __call__(self, x):
        return jax.lax.cond(x[0] > 0, lambda x: self.a(x), lambda x: self.b(x), x)

    def same(self, x):
        return jax.lax.cond(x[0] > 0, lambda x: self.a(x), lambda x: -self.a(2 * x), x)


def test_a_branch_that_is_not_taken_returns_nan():
    model = Branches(MODEL.head, MODEL.layers[0])
    a, b, nan = np_layer(model.a, X), np_layer(model.b, -X), np.full(3, np.nan, np.float32)
    for run in (taps(model, ["a", "b"]), jit(taps(model, ["a", "b"]))):
        assert_same(run(X), (a, {"a": a, "b": nan}))
        assert_same(run(-X), (b, {"a": nan, "b": b}))
    new = jnp.ones(3)
    for run in (taps(model, ["a", "b"], replace={"a": new}), jit(taps(model, ["a", "b"], replace={"a": new}))):
        assert_same(run(X)[0], new)
        assert_same(run(-X)[0], b)


def test_a_part_of_all_branches_is_called_once():
    model = Branches(MODEL.head, MODEL.layers[0])
    tapped = taps(model.same, "a")
    a, b = np_layer(model.a, X), np_layer(model.a, -2 * X)
    assert_same(tapped(X), (a, {"a": a}))
    assert_same(tapped(-X), (-b, {"a": b}))


class Twice(eqx_core.Module):
    layer: Any

    def __call__(self, x, unused=None):
        self.layer(x * 3)
        return self.layer(self.layer(x))


def test_several_calls_return_a_list():
    model = Twice(MODEL.head)
    first = np_layer(model.layer, X)
    second = np_layer(model.layer, first)
    _, activations = jit(taps(model, "layer"))(X)
    assert_same(activations, {"layer": [np_layer(model.layer, 3 * X), first, second]})
    out, again = taps(model, "layer", replace={"layer": [None, X, None]})(X)
    assert_same(out, np_layer(model.layer, X))
    assert_same(again["layer"][1:], [jnp.asarray(X), np_layer(model.layer, X)])
    with pytest.raises(
        ValueError, match=r"at `layer` must be a list of 3 values, because it is called 3 times; got f32"
    ):
        taps(model, "layer", replace={"layer": jnp.ones(3)})(X)


def test_a_function_is_applied_in_each_call():
    seen = []

    def double(x):
        seen.append(x.shape)
        return 2 * x

    out, activations = taps(MODEL, "layers[*]", replace={"layers[0]": double})(X)
    a = 2 * np_layer(MODEL.layers[0], X)
    b = np_layer(MODEL.layers[1], a)
    assert_same((out, activations), (2 * np_layer(MODEL.head, b), {"layers[0]": a, "layers[1]": b}))
    xs = np.ones((3, 4, 5), np.float32)
    taps(Mapped(MODEL.head), "layer", replace={"layer": double})(xs, np.zeros((5, 3, 4), np.float32))
    # As the layer itself, it sees one entry of the batch.
    assert seen == [(3,), (3,)]


def test_gradients_with_respect_to_what_a_function_holds():
    def loss(delta):
        return jnp.sum(taps(MODEL, "layers[0]", replace={"layers[0]": lambda x: x + delta})(X)[0])

    def rest(x):
        return jnp.sum(2.0 * MODEL.head(MODEL.layers[1](x)))

    expected = jax.grad(rest)(jnp.asarray(np_layer(MODEL.layers[0], X)))
    for run in (jax.grad(loss), jax.jit(jax.grad(loss))):
        assert_same(run(jnp.zeros(3)), expected)
    of_value = jax.grad(lambda new: jnp.sum(taps(MODEL, "layers[0]", replace={"layers[0]": new})(X)[0]))
    assert_same(of_value(jnp.asarray(np_layer(MODEL.layers[0], X))), expected)

    def of_module(probe):
        return jnp.sum(taps(MODEL, "layers[0]", replace={"layers[0]": probe})(X)[0])

    grads = filter_jit(filter_grad(of_module))(layer(5))
    assert_same(grads, filter_grad(lambda probe: rest(probe(np_layer(MODEL.layers[0], X))))(layer(5)))


class Differentiates(eqx_core.Module):
    """A model that is the derivative of another, as physics wants it."""

    energy: Layer

    def __call__(self, x):
        return jax.grad(lambda x: jnp.sum(self.energy(x)))(x)


def test_a_model_may_differentiate_its_parts():
    model = Differentiates(MODEL.head)
    y, w = np_layer(model.energy, X), np.asarray(model.energy.weight)
    for run in (taps(model, "energy"), jit(taps(model, "energy"))):
        assert_same(run(X), (w.T @ (1 - y**2), {"energy": y}))
    out, _ = taps(model, "energy", replace={"energy": jnp.zeros(3)})(X)
    assert_same(out, np.zeros(3, np.float32))
    out, _ = taps(model, "energy", perturb={"energy": jnp.ones(3)})(X)
    assert_same(out, w.T @ (1 - y**2))


def test_methods_functions_and_classes_are_parts_too():
    scores = np.asarray(MODEL.layers[0].weight) @ X
    for where in ("layers[0].scores", "layers.0.scores", lambda m: m.layers[0].scores):
        assert_same(taps(MODEL, where)(X)[1], {"layers[0].scores": scores})
    assert_same(taps(MODEL, "head.activation")(X)[1], {"head.activation": np_model(MODEL, X)[1]["head"]})
    assert list(taps(MODEL, Layer)(X)[1]) == ["layers[0]", "layers[1]", "head"]
    assert_same(taps(MODEL, Model)(X)[1], {"": np_model(MODEL, X)[0]})


def test_where_may_be_written_in_many_ways():
    expected = ("layers[0]", "layers[1]")
    assert taps(MODEL, "layers[*]").paths == expected
    assert taps(MODEL, "layers.*").paths == expected
    assert taps(MODEL, lambda m: m.layers).paths == expected
    assert taps(MODEL, lambda m: list(m.layers)).paths == expected
    assert taps(MODEL, [lambda m: m.layers[1], "layers[0]"]).paths == expected
    assert taps(MODEL, "**.activation").paths == tuple(f"{path}.activation" for path in (*expected, "head"))
    assert taps(MODEL, ("h*", Layer)).paths == (*expected, "head")
    assert taps({"a": MODEL.head}["a"], "").paths == ("",)
    nested = Twice({"it": [MODEL.head]})
    assert taps(nested, "layer.it.*").paths == ("layer['it'][0]",)
    shared = Model((MODEL.head, MODEL.head), MODEL.head)
    assert taps(shared, lambda m: m.layers[1]).paths == ("layers[1]",)


def test_a_method_of_a_model_may_be_tapped():
    expected = np_layer(MODEL.layers[0], X)
    assert_same(taps(MODEL.encode, "layers[*]")(X), (expected, {"layers[0]": expected}))


def test_parts_in_parts_are_seen_both():
    _, activations = taps(MODEL, ["head", "head.scores", "head.activation"])(X)
    scores = np.asarray(MODEL.head.weight) @ np_model(MODEL, X)[1]["layers[1]"]
    assert_same(activations, {"head.scores": scores, "head.activation": np.tanh(scores), "head": np.tanh(scores)})


def test_activations_may_be_any_tree():
    class Pair(eqx_core.Module):
        def __call__(self, x):
            return {"value": x * 2, "key": jr.key(3), "count": jnp.array(4), "name": "pair", "none": None}

    class Uses(eqx_core.Module):
        pair: Pair

        def __call__(self, x):
            return jax.jit(lambda x: self.pair(x)["value"])(x), "text"

    out, activations = taps(Uses(Pair()), "pair")(X)
    assert out[1] == "text"
    assert_same(out[0], 2 * X)
    found = activations["pair"]
    assert found["name"] == "pair"
    assert found["none"] is None
    assert found["count"] == 4
    assert jr.key_data(found["key"]).tolist() == jr.key_data(jr.key(3)).tolist()
    out, _ = taps(Uses(Pair()), "pair", replace={"pair": {**found, "value": jnp.zeros(3), "key": None}})(X)
    assert_same(out[0], np.zeros(3, np.float32))


def test_branches_may_return_keys():
    class Key(eqx_core.Module):
        def __call__(self, x):
            return x, jr.key(1), 3

    class Uses(eqx_core.Module):
        key: Key

        def __call__(self, x):
            return jax.lax.cond(x[0] > 0, lambda x: self.key(x)[0], lambda x: x, x)

    for sign in (1, -1):
        _, activations = jax.jit(lambda x: taps(Uses(Key()), "key")(x)[1]["key"][:2])(sign * X)
        assert jnp.issubdtype(activations.dtype, jax.dtypes.prng_key)


def test_what_the_model_does_not_call_is_left_out():
    class Lazy(eqx_core.Module):
        used: Layer
        unused: Layer

        def __call__(self, x):
            return self.used(x)

    model = Lazy(MODEL.head, MODEL.layers[0])
    assert list(taps(model, Layer)(X)[1]) == ["used"]
    with pytest.raises(ValueError, match=r"of parts that the model calls; got `unused`, which it does not call"):
        taps(model, Layer, replace={"unused": X})(X)


def test_the_model_keeps_its_classes_and_stays_as_it_is():
    class Looks(eqx_core.Module):
        layer: Layer

        def __call__(self, x):
            assert isinstance(self.layer, Layer)
            assert self.layer.weight.shape == (3, 3)
            return eqx_core.tree_at(lambda m: m.weight, self.layer, jnp.eye(3))(x)

    model = Looks(MODEL.head)
    assert_same(taps(model, "layer")(X), (np.tanh(X), {"layer": np.tanh(X)}))
    assert type(model.layer) is Layer
    assert jax.tree.structure(taps(MODEL, "head").model) == jax.tree.structure(MODEL)


def test_a_tapped_model_is_a_pytree_of_the_models_arrays():
    tapped = taps(MODEL, ALL)
    doubled = jax.tree.map(lambda x: 2 * x if eqx_core.is_array(x) else x, tapped)
    assert_same(doubled(X)[1]["layers[0]"], np.tanh(2 * np.asarray(MODEL.layers[0].weight) @ X))
    traces = []

    @filter_jit
    def run(tapped, x):
        traces.append(None)
        return tapped(x)

    for scale in (1.0, 2.0):
        run(jax.tree.map(lambda x, s=scale: s * x if eqx_core.is_array(x) else x, taps(MODEL, ALL)), X)
    assert len(traces) == 1


def test_ensembles_of_models_may_be_tapped():
    keys = jr.split(jr.key(0), 4)
    ensemble = filter_vmap(lambda key: Layer(jr.normal(key, (3, 3))))(keys)
    model = filter_vmap(
        lambda layer, x: taps(Twice(layer), "layer")(x)[1]["layer"], in_axes=(eqx_filter.if_array(0), None)
    )
    found = model(ensemble, X)
    assert [x.shape for x in found] == [(4, 3)] * 3
    np.testing.assert_allclose(found[1][2], np_layer(Layer(ensemble.weight[2]), X), rtol=1e-5)


def test_taps_around_taps_do_not_mix():
    class Outer(eqx_core.Module):
        inner: Any
        last: Layer

        def __call__(self, x):
            out, activations = self.inner(x)
            return self.last(out), activations

    outer = taps(Outer(taps(MODEL, "head"), MODEL.layers[0]), ["last", "inner.model.layers[0]", "inner.model.head"])
    (out, inner), activations = jit(outer)(X)
    expected = np_model(MODEL, X)
    last = np_layer(MODEL.layers[0], expected[0])
    assert_same((out, inner), (last, {"head": expected[1]["head"]}))
    assert_same(
        activations,
        {"inner.model.layers[0]": expected[1]["layers[0]"], "inner.model.head": expected[1]["head"], "last": last},
    )


def test_low_precision_stays_low():
    model = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if eqx_core.is_array(x) else x, MODEL)
    x = jnp.asarray(X, jnp.bfloat16)
    _, activations = taps(model, ALL, perturb={"head": jnp.zeros(3, jnp.bfloat16)})(x)
    assert {a.dtype for a in activations.values()} == {jnp.dtype(jnp.bfloat16)}


def test_shapes_alone_are_enough():
    out, activations = jax.eval_shape(taps(MODEL, ALL), jax.ShapeDtypeStruct((3,), jnp.float32))
    assert out.shape == (3,)
    assert {path: a.shape for path, a in activations.items()} == dict.fromkeys(("layers[0]", "layers[1]", "head"), (3,))


class Loops(eqx_core.Module):
    layer: Layer
    bound: int | None = None

    def __call__(self, x):
        if self.bound is None:
            return jax.lax.while_loop(lambda x: jnp.sum(x) < 5, lambda x: self.layer(x) + 1, x)
        return jax.lax.fori_loop(0, self.bound, lambda i, x: self.layer(x), x)


def test_loops_of_known_length_return_a_stack_and_others_say_why_not():
    one = np_layer(MODEL.head, X)
    assert_same(taps(Loops(MODEL.head, 2), "layer")(X)[1], {"layer": np.stack([one, np_layer(MODEL.head, one)])})
    with pytest.raises(ValueError, match=r"got `layer`, called in a `while`\. How many steps .* write `lax\.scan`"):
        taps(Loops(MODEL.head), "layer")(X)


def test_a_shard_map_says_why_not():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("x",))
    spec = jax.sharding.PartitionSpec("x")

    class Sharded(eqx_core.Module):
        layer: Layer

        def __call__(self, x):
            return jax.shard_map(lambda x: self.layer(x), mesh=mesh, in_specs=spec, out_specs=spec)(x)

    with pytest.raises(ValueError, match=r"called in a `shard_map`\. What is there is a part of an array"):
        taps(Sharded(MODEL.head), "layer")(X)


def test_what_cannot_be_looked_into_says_so():
    class Solves(eqx_core.Module):
        layer: Any

        def __call__(self, x):
            return jax.lax.custom_linear_solve(lambda y: self.layer(y), x, lambda _, b: b / 2, symmetric=True)

    model = Solves(eqx_core.Partial(jnp.multiply, jnp.float32(2)))
    np.testing.assert_array_equal(model(X), X / 2)
    with pytest.raises(ValueError, match=r"called in a `custom_linear_solve`\. Pick what is around it"):
        taps(model, "layer")(X)


def test_nonsense_is_refused():
    with pytest.raises(TypeError, match=r"`taps\(where=\.\.\.\)` must be a path, a class, a function .* got 3\."):
        taps(MODEL, 3)
    with pytest.raises(ValueError, match=r"got `layer`, which picks nothing\. There are `layers\[0\]`, "):
        taps(MODEL, "layer")
    with pytest.raises(ValueError, match=r"got `layers\[0\]\.weight`, which picks nothing"):
        taps(MODEL, "layers[0].weight")
    with pytest.raises(ValueError, match=r"got `dict`, which picks nothing"):
        taps(MODEL, dict)
    with pytest.raises(TypeError, match=r"that can be called, or their methods; got f32\[3,3\] at `\.head\.weight`"):
        taps(MODEL, lambda m: m.head.weight)
    with pytest.raises(TypeError, match=r"that can be called, or their methods; got Layer"):
        taps(MODEL, lambda m: layer(0))
    with pytest.raises(ValueError, match=r"`taps\(replace=\.\.\.\)` must have keys that `where` picks; got `tail`"):
        taps(MODEL, "head", replace={"tail": X})
    with pytest.raises(ValueError, match=r"`taps\(perturb=\.\.\.\)` must have keys that `where` picks; got `tail`"):
        taps(MODEL, "head", perturb={"tail": X})
    with pytest.raises(ValueError, match=r"must not both have the same path; got `head` twice"):
        taps(MODEL, "head", replace={"head": X}, perturb={"head": X})


@pytest.mark.parametrize("value", [np.ones(4, np.float32), np.ones(3, np.float16), [X, X], 3.0])
def test_a_value_unlike_the_activation_is_refused(value):
    with pytest.raises(ValueError, match=r"at `head` must be like the activation, `f32\[3\]`; got "):
        taps(MODEL, "head", replace={"head": value})(X)


def test_nothing_is_left_behind():
    with jax.checking_leaks():
        assert_same(jit(taps(MODEL, ALL))(X), np_model(MODEL, X))
