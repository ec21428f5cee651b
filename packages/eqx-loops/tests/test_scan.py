"""`scan`: every kind gives the results and gradients of `jax.lax.scan` and of a Python loop, and keeps arrays in place."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings

import eqx_core
import eqx_loops

try:
    import equinox.internal as equinox_internal
except ImportError:
    equinox_internal = None

KINDS = {
    "lax": {},
    "bounded": {"base": 3},
    "segmented": {},
    "checkpointed": {"checkpoints": 3},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
loops = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "lax"])
W = jr.normal(jr.key(0), (3, 3)) / 2
XS = jr.normal(jr.key(1), (7, 3))


def scan(*args, kind, **kwargs):
    return eqx_loops.scan(*args, kind=kind, **(KINDS[kind] | kwargs))


def close(one, other):
    jtu.tree_map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-6), one, other)


def python_scan(f, init, xs, length=None):
    """The oracle: a loop of Python."""
    results = []
    for i in range(len(jtu.tree_leaves(xs)[0])):
        init, result = f(init, jtu.tree_map(lambda x, i=i: x[i], xs))
        results.append(result)
    return init, jtu.tree_map(lambda *x: jnp.stack(x), *results)


def loss(run, w, init, xs):
    """Depends on all that is scanned over and on all results."""

    def f(carry, x):
        i, y = carry
        y = jnp.tanh(w @ y + x["a"]) + 0.1 * x["b"]
        return (i + 1, y), {"y": y, "product": y * x["a"], "i": i, "none": None}

    (i, y), results = run(f, (0, init), xs)
    weights = jnp.arange(float(xs["a"].size)).reshape(xs["a"].shape)
    return (
        (weights * results["product"]).sum() + (results["y"] ** 2).sum() + y.sum() + 0.0 * jnp.asarray(i, jnp.float32)
    )


@functools.cache
def gradient(kind):
    return jax.jit(jax.value_and_grad(functools.partial(loss, functools.partial(scan, kind=kind)), (0, 1, 2)))


@every_kind
def test_gradients_are_those_of_a_python_loop(kind):
    xs = {"a": XS, "b": XS[:, 0]}
    expected = jax.value_and_grad(functools.partial(loss, python_scan), (0, 1, 2))(W, XS[0], xs)
    close(gradient(kind)(W, XS[0], xs), expected)


@loops
@given(seed=st.integers(0, 99))
@settings(max_examples=5)
def test_gradients_are_those_of_lax_scan_for_random_data(kind, seed):
    xs = {"a": jr.normal(jr.key(seed), (7, 3)), "b": XS[:, 1]}
    expected = jax.value_and_grad(functools.partial(loss, jax.lax.scan), (0, 1, 2))
    close(gradient(kind)(W, XS[0], xs), expected(W, XS[0], xs))


@every_kind
@pytest.mark.parametrize("length", [0, 1])
def test_short_scans(kind, length):
    xs = {"a": XS[:length], "b": XS[:length, 0]}
    ours, theirs = (
        jax.jit(jax.value_and_grad(functools.partial(loss, run), (0, 1, 2)))(W, XS[0], xs)
        for run in (functools.partial(scan, kind=kind), jax.lax.scan)
    )
    close(ours, theirs)


@pytest.mark.parametrize(
    "order",
    [lambda f: jax.vmap(jax.grad(f, (0, 1))), lambda f: jax.grad(lambda *a: jax.vmap(f)(*a).sum(), (0, 1))],
    ids=["vmap of grad", "grad of vmap"],
)
@every_kind
def test_batches(kind, order):
    def per_element(run, init, xs):
        return loss(run, W, init, {"a": xs, "b": xs[:, 0]})

    ours, theirs = (
        jax.jit(order(functools.partial(per_element, run)))(XS[:2], jnp.stack([XS, -XS]))
        for run in (functools.partial(scan, kind=kind), jax.lax.scan)
    )
    close(ours, theirs)


@pytest.mark.parametrize("kind", ["segmented", "checkpointed"])
def test_forward_over_reverse(kind):
    def f(run, y):
        last, ys = run(lambda y, x: (jnp.tanh(W @ y + x), jnp.sin(y)), y, XS[:3])
        return (last**2).sum() + ys.sum()

    ours = jax.jit(jax.hessian(functools.partial(f, functools.partial(scan, kind=kind))))(XS[0])
    close(ours, jax.hessian(functools.partial(f, jax.lax.scan))(XS[0]))


@every_kind
def test_scans_nest(kind):
    def f(run, y, xs):
        def outer(y, x):
            y, products = run(lambda y, x: (jnp.tanh(y + x), y * x), y, x[None] * xs)
            return y, products.sum()

        y, sums = run(outer, y, xs[:4])
        return y.sum() + (sums**2).sum()

    ours, theirs = (
        jax.jit(jax.grad(functools.partial(f, run), (0, 1)))(XS[0], XS)
        for run in (functools.partial(scan, kind=kind), jax.lax.scan)
    )
    close(ours, theirs)


class Layer(eqx_core.Module):
    weight: jax.Array
    activation: object

    def __call__(self, x):
        return self.activation(self.weight @ x)

    def step(self, x, shift):
        return self(x) + shift, None


@every_kind
def test_stacked_modules_are_scanned_over(kind):
    """What is no array in them is the same in each slice, and in the results."""
    layers = Layer(jnp.stack([W, 2 * W]), jnp.tanh)
    last, seen = scan(lambda x, layer: (layer(x), layer), XS[0], layers, kind=kind)
    close(last, jnp.tanh(2 * W @ jnp.tanh(W @ XS[0])))
    assert seen.activation is jnp.tanh
    close(seen.weight, layers.weight)


@every_kind
def test_a_method_as_the_step_is_differentiated(kind):
    def f(layer, run):
        return run(layer.step, XS[0], XS)[0].sum()

    layer = Layer(W, jnp.tanh)
    ours = jax.grad(lambda w: f(Layer(w, jnp.tanh), functools.partial(scan, kind=kind)))(W)
    close(
        ours, jax.grad(lambda w: f(Layer(w, jnp.tanh), lambda g, c, x: python_scan(lambda *a: (g(*a)[0], 0), c, x)))(W)
    )
    assert layer.activation is jnp.tanh


@every_kind
def test_numbers_become_arrays(kind):
    total, results = scan(lambda total, x: (total + x, 3), 0.0, jnp.arange(4.0), kind=kind)
    assert total == 6
    np.testing.assert_array_equal(results, [3, 3, 3, 3])


@every_kind
def test_keys_may_be_carried_and_scanned_over(kind):
    keys = jr.split(jr.key(3), 4)
    (last, total), seen = scan(
        lambda carry, key: ((key, carry[1] + jr.uniform(key)), carry[0]), (jr.key(0), 0.0), keys, kind=kind
    )
    assert total == jax.vmap(jr.uniform)(keys).sum()
    assert jnp.array_equal(jr.key_data(last), jr.key_data(keys[-1]))
    np.testing.assert_array_equal(jr.key_data(seen)[1:], jr.key_data(keys)[:-1])


@every_kind
def test_length_alone_is_enough(kind):
    total, results = scan(lambda n, x: (n + 1, x), 0, None, 5, kind=kind)
    assert (total, results) == (5, None)


@pytest.mark.parametrize("checkpoints", [1, 2, 100, "all"])
def test_any_number_of_checkpoints(checkpoints):
    xs = {"a": XS, "b": XS[:, 0]}
    run = functools.partial(eqx_loops.scan, kind="checkpointed", checkpoints=checkpoints)
    expected = jax.grad(functools.partial(loss, jax.lax.scan), (0, 1, 2))(W, XS[0], xs)
    close(jax.jit(jax.grad(functools.partial(loss, run), (0, 1, 2)))(W, XS[0], xs), expected)


@every_kind
def test_parts_of_the_carry_may_be_buffers(kind):
    """A history that each step reads and writes."""

    def f(run, x, **options):
        def step(carry, i):
            history, y = carry
            y = jnp.sin(y) + 0.5 * history[jnp.maximum(i - 2, 0)]
            return (eqx_loops.buffer_at_set(history, i, y), y), y * i.astype(jnp.float32)

        (history, y), ys = run(step, (jnp.zeros(6).at[0].set(x), x), jnp.arange(1, 6), **options)
        return (history**2).sum() + y + ys.sum()

    ours = jax.value_and_grad(lambda x: f(functools.partial(scan, kind=kind), x, buffers=lambda carry: carry[0]))(0.3)
    close(ours, jax.value_and_grad(functools.partial(f, jax.lax.scan))(0.3))


@pytest.mark.parametrize("kind", ["segmented", "checkpointed"])
def test_time_and_memory_are_linear_in_the_length(kind):
    """Neither the slices nor the results, nor the cotangents of either, are copied in each step."""

    def f(x, xs):
        last, ys = eqx_loops.scan(lambda c, x: (jnp.sin(c + x), c * x), x, xs, kind=kind)
        return (ys**2).sum() + last.sum()

    def counted(length):
        xs = jnp.ones((length, 8))
        compiled = jax.jit(jax.grad(f, (0, 1))).lower(xs[0], xs).compile()
        return compiled.memory_analysis().temp_size_in_bytes / xs.nbytes, compiled.as_text()

    memory, text = counted(1024)
    assert memory < 4
    copies = [line for line in text.splitlines() if "f32[1024,8]" in line.split("=")[-1][:20] and " copy(" in line]
    # Before and after the loops, not in the innermost.
    assert len(copies) <= 4


@pytest.mark.skipif(equinox_internal is None, reason="Equinox is not installed")
@pytest.mark.parametrize("checkpoints", [None, "all"])
def test_results_are_those_of_equinox(checkpoints):
    ours, theirs = (
        jax.grad(
            lambda w, run=run: loss(
                functools.partial(run, kind="checkpointed", checkpoints=checkpoints), w, XS[0], {"a": XS, "b": XS[:, 0]}
            )
        )(W)
        for run in (eqx_loops.scan, equinox_internal.scan)
    )
    close(ours, theirs)


def test_the_kind_must_be_known():
    with pytest.raises(
        ValueError, match=r"`scan\(kind=...\)` must be one of 'lax', 'bounded', 'checkpointed', 'segmented'; got 'al"
    ):
        eqx_loops.scan(lambda c, x: (c, x), 0.0, XS, kind="all")


@every_kind
def test_lengths_must_agree(kind):
    f = lambda c, x: (c, None)  # noqa: E731
    with pytest.raises(ValueError, match=r"inconsistent lengths: 7 for `xs\[0\]`, 2 for `xs\[1\]`. Cut them"):
        scan(f, 0.0, (XS, jnp.ones(2)), kind=kind)
    with pytest.raises(ValueError, match="inconsistent lengths: 3 for `length`, 7 for `xs`"):
        scan(f, 0.0, XS, 3, kind=kind)
    with pytest.raises(ValueError, match=r"`scan\(length=...\)` must be given where `xs` holds no array; got None"):
        scan(f, 0.0, None, kind=kind)
    with pytest.raises(
        ValueError, match=r"`scan\(xs=...\)` must hold arrays with a leading axis; got `weak_f32\[\]` at `xs\['a'\]`"
    ):
        scan(f, 0.0, {"a": jnp.array(1.0)}, kind=kind)


@every_kind
def test_the_step_must_return_a_pair(kind):
    with pytest.raises(TypeError, match=r"`scan\(f=...\)` must return a pair of the next carry and a result; got `f32"):
        scan(lambda c, x: c + 1, 0.0, XS, kind=kind)


@every_kind
def test_the_carry_must_stay_as_it_is(kind):
    with pytest.raises(
        ValueError, match=r"got: `f32\[\]` became `f32\[3\]` at `carry\['a'\]`. Return a carry like that"
    ):
        scan(lambda c, x: ({"a": x}, None), {"a": 0.0}, XS, kind=kind)
    with pytest.raises(ValueError, match=r"got: `f32\[\]` became `weak_i32\[\]` at `carry`"):
        scan(lambda c, x: (1, None), 0.0, XS, kind=kind)
    with pytest.raises(ValueError, match=r"got: structure `f32\[\]` became `\(f32\[\], f32\[\]\)`"):
        scan(lambda c, x: ((c, c), None), 0.0, XS, kind=kind)


@every_kind
def test_the_first_carry_must_hold_arrays(kind):
    with pytest.raises(
        TypeError, match=r"`scan\(init=...\)` must hold only arrays, .* got `'a'` at `init\[1\]`. Let `f` close over"
    ):
        scan(lambda c, x: (c, None), (0.0, "a"), XS, kind=kind)
