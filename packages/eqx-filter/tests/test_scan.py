"""`filter_scan` against `jax.lax.scan` on arrays, and by hand on models."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_core
import eqx_filter
from eqx_filter import filter_scan


class Cell(eqx_core.Module):
    weight: jax.Array  # f32[size, size]
    activation: object
    name: str = eqx_core.field(static=True, default="cell")

    def __call__(self, carry, x):
        carry = self.activation(self.weight @ carry + x)
        return carry, (carry.sum(), self.activation)

    def step(self, carry, x):
        return self(carry, x)

    def apply(self, x):
        return self.activation(self.weight @ x)


def _cell(seed=0, activation=jnp.tanh):
    return Cell(jr.normal(jr.key(seed), (3, 3)), activation)


XS = jr.normal(jr.key(7), (4, 3))
INIT = jnp.ones(3)


def _by_hand(weight, init, xs):
    """The same as scanning `Cell.step`, with the activation left outside."""
    return jax.lax.scan(lambda c, x: (jnp.tanh(weight @ c + x), jnp.tanh(weight @ c + x).sum()), init, xs)


def _assert_same(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), a, b)
    assert jax.tree.structure(a) == jax.tree.structure(b)


@settings(max_examples=20)
@given(
    length=st.integers(0, 4),
    reverse=st.booleans(),
    unroll=st.sampled_from([1, 2, True, False]),
    with_length=st.booleans(),
)
def test_on_arrays_it_is_that_of_jax(length, reverse, unroll, with_length):
    options = {"reverse": reverse, "unroll": unroll, "length": length if with_length else None}
    xs = {"a": XS[:length], "b": (jnp.arange(length),)}
    arguments = (_running_sum, (INIT, jnp.asarray(0)), xs)
    _assert_same(filter_scan(*arguments, **options), jax.lax.scan(*arguments, **options))


def _running_sum(carry, x):
    total, count = carry
    total = total + x["a"]
    return (total, count + x["b"][0]), {"total": total, "last": count}


def test_without_xs_it_is_that_of_jax():
    def double(carry, x):
        assert x is None
        return 2 * carry, carry

    _assert_same(filter_scan(double, INIT, length=3), jax.lax.scan(double, INIT, None, length=3))


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    "make",
    [
        lambda m: m,
        lambda m: m.step,
        lambda m: eqx_core.Partial(Cell.step, m),
        lambda m: functools.partial(Cell.step, m),
    ],
    ids=["Module", "bound method", "Partial", "functools.partial"],
)
def test_the_step_may_be_any_callable(make, transform):
    weight = _cell().weight

    @transform
    def run(weight, init, xs):
        last, (sums, activation) = filter_scan(make(Cell(weight, jnp.tanh)), init, xs)
        assert activation is jnp.tanh
        return last, sums

    _assert_same(run(weight, INIT, XS), _by_hand(weight, INIT, XS))


def test_a_module_may_be_the_carry():
    def grow(model, x):
        model = eqx_core.tree_at(lambda m: m.weight, model, model.weight + x[None])
        return model, model.apply(x)

    model = _cell()
    last, outs = filter_scan(grow, model, XS)
    weights, expected = jax.lax.scan(lambda w, x: (w + x[None], jnp.tanh((w + x[None]) @ x)), model.weight, XS)
    _assert_same((last.weight, outs), (weights, expected))
    assert (last.activation, last.name) == (jnp.tanh, "cell")


@pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])
def test_stacked_layers_may_be_xs(transform):
    layers = [_cell(seed) for seed in range(5)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x) if eqx_core.is_array(x[0]) else x[0], *layers)

    def apply(x, layer):
        assert (layer.activation, layer.name) == (jnp.tanh, "cell")
        return layer.apply(x), None

    expected = INIT
    for layer in layers:
        expected = layer.apply(expected)
    out, _ = transform(lambda s, x: filter_scan(apply, x, s))(stacked, INIT)
    _assert_same(out, expected)
    grads = transform(eqx_filter.filter_grad(lambda s: filter_scan(apply, INIT, s)[0].sum()))(stacked)
    by_hand = jax.grad(lambda w: jax.lax.scan(lambda x, w: (jnp.tanh(w @ x), None), INIT, w)[0].sum())(stacked.weight)
    _assert_same(grads.weight, by_hand)


@pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])
def test_it_is_differentiated_with_respect_to_what_the_step_closes_over(transform):
    def loss(model):
        last, (sums, _) = filter_scan(lambda c, x: model(c, x), INIT, XS)
        return (last * jnp.arange(3.0)).sum() + sums.sum()

    def by_hand(weight):
        last, sums = _by_hand(weight, INIT, XS)
        return (last * jnp.arange(3.0)).sum() + sums.sum()

    model = _cell()
    grad = transform(eqx_filter.filter_grad(loss))(model)
    _assert_same(grad.weight, jax.grad(by_hand)(model.weight))
    assert grad.activation is None
    # A second time, from the cache.
    _assert_same(transform(eqx_filter.filter_grad(loss))(model).weight, grad.weight)


def test_forward_mode_agrees_with_jax():
    weight = _cell().weight

    def run(weight):
        return filter_scan(Cell(weight, jnp.tanh).step, INIT, XS)[0]

    _assert_same(jax.jacfwd(run)(weight), jax.jacrev(lambda w: _by_hand(w, INIT, XS)[0])(weight))


def test_it_is_mapped_by_vmap():
    model, inits = _cell(), jr.normal(jr.key(1), (5, 3))
    out, _ = jax.vmap(lambda init: filter_scan(lambda c, x: (model(c, x)[0], None), init, XS))(inits)
    _assert_same(out, jnp.stack([_by_hand(model.weight, init, XS)[0] for init in inits]))
    models = eqx_filter.filter_vmap(_cell)(jnp.arange(2))
    out = eqx_filter.filter_vmap(lambda m: filter_scan(m.step, INIT, XS)[0])(models)
    _assert_same(out, jnp.stack([_by_hand(w, INIT, XS)[0] for w in models.weight]))


def test_it_is_rematerialised_and_nested():
    def inner(c, x):
        return filter_scan(_cell().step, c, XS)[0] + x, None

    def by_hand(c, x):
        return _by_hand(_cell().weight, c, XS)[0] + x, None

    run, expected = (
        jax.grad(lambda c, s=scan, f=f: s(jax.checkpoint(f), c, XS)[0].sum())
        for scan, f in [(filter_scan, inner), (jax.lax.scan, by_hand)]
    )
    _assert_same(run(INIT), expected(INIT))


def test_what_is_no_array_is_returned_once():
    carry, out = filter_scan(lambda c, x: (c, ("text", 3, x, None)), {"f": len, "n": 1, "k": jr.key(0)}, XS)
    assert (carry["f"], carry["n"]) == (len, 1)
    assert out[:2] == ("text", 3)
    assert out[2].shape == (4, 3)
    assert jr.key_data(carry["k"]).tolist() == jr.key_data(jr.key(0)).tolist()


def test_an_empty_carry_and_empty_results_are_fine():
    assert filter_scan(lambda c, x: (c, None), None, XS) == (None, None)
    assert filter_scan(lambda c, x: (c, ()), ("a",), length=2) == (("a",), ())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "complex64"])
def test_weak_types_are_those_of_jax(dtype):
    xs = jnp.ones(3, dtype)
    arguments = (lambda c, x: (c + x, c), jnp.asarray(0), xs)
    ours, theirs = filter_scan(*arguments), jax.lax.scan(*arguments)
    _assert_same(ours, theirs)
    assert jax.tree.map(jax.typeof, ours) == jax.tree.map(jax.typeof, theirs)


def _x64():
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


def test_float64_stays_so():
    with _x64():
        last, _ = filter_scan(lambda c, x: (c + x, None), jnp.zeros((), "float64"), jnp.ones(2, "float64"))
        assert last.dtype == "float64"


def test_numpy_arrays_are_arrays():
    last, outs = filter_scan(lambda c, x: (c + x, x), np.float32(0), np.arange(3, dtype=np.float32))
    assert (float(last), outs.tolist()) == (3.0, [0.0, 1.0, 2.0])


def test_structs_do_for_its_shape():
    struct = jax.eval_shape(lambda c: filter_scan(_cell(), c, XS)[0], jax.ShapeDtypeStruct((3,), "float32"))
    assert struct.shape == (3,)


def test_disabling_jit_changes_nothing():
    expected = filter_scan(_cell(), INIT, XS)
    with jax.disable_jit():
        last, (sums, activation) = filter_scan(_cell(), INIT, XS)
    assert activation is expected[1][1]
    _assert_same((last, sums), (expected[0], expected[1][0]))


def test_a_step_is_traced_once_for_all_models_of_its_kind():
    traces = []

    class Counting(eqx_core.Module):
        weight: jax.Array

        def step(self, c, x):
            traces.append(1)
            return c * self.weight + x, None

    outs = [filter_scan(Counting(jnp.float32(i)).step, jnp.float32(1), jnp.ones(3))[0] for i in range(3)]
    assert [float(out) for out in outs] == [1.0, 4.0, 15.0]
    assert len(traces) == 1


def test_a_number_that_changes_is_an_error_that_says_what_to_do():
    with pytest.raises(TypeError) as caught:
        filter_scan(lambda c, x: ({"n": c["n"] + 1, "x": c["x"] + x}, None), {"n": 0, "x": jnp.zeros(3)}, XS)
    assert str(caught.value) == (
        "`filter_scan(f=...)` must return a carry of the structure, the shapes, the dtypes and the static values of "
        "that which it gets; got:\n  carry['n']: static value 0 became 1\n"
        "A Python number is static: make it `jnp.asarray(...)` at `carry['n']` to let it change."
    )
    with pytest.raises(TypeError, match=r"carry: type 0\.0 became f32\[\]\nA Python number is static"):
        filter_scan(lambda c, x: (c + x.sum(), None), 0.0, XS)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda m: Cell(m.weight[None], m.activation), r"carry\.weight: shape f32\[3,3\] became f32\[1,3,3\]"),
        (lambda m: Cell(m.weight.astype(int), m.activation), r"carry\.weight: dtype f32\[3,3\] became i32\[3,3\]"),
        (lambda m: Cell(m.weight, jnp.sin), r"carry\.activation: static value <.*tanh.*> became <.*sin.*>"),
        (lambda m: Cell(m.weight, m.activation, "other"), r"carry\.name: static value 'cell' became 'other'"),
        (lambda m: Cell((m.weight,), m.activation), r"carry\.weight: structure f32\[3,3\] became tuple of 1"),
        (lambda m: Cell("text", m.activation), r"carry\.weight: type f32\[3,3\] became 'text'"),
    ],
)
@pytest.mark.parametrize("transform", [lambda f: f, eqx_filter.filter_jit], ids=["eager", "jit"])
def test_a_carry_that_changes_is_named_by_path(step, text, transform):
    with pytest.raises(TypeError, match=text):
        transform(lambda m: filter_scan(lambda m, x: (step(m), None), m, XS)[1])(_cell())


def test_a_step_must_return_a_pair():
    with pytest.raises(TypeError, match=r"`filter_scan\(f=...\)` must return a pair .*; got f32\[3\]"):
        filter_scan(lambda c, x: c, INIT, XS)


@pytest.mark.parametrize(
    ("xs", "length", "text"),
    [
        (None, None, r"`filter_scan\(length=...\)` must be given"),
        ({"a": "text"}, None, r"`filter_scan\(length=...\)` must be given"),
        ({"a": jnp.ones(())}, None, r"leading axis; got f32\[\] at `xs\['a'\]`"),
        ({"a": jnp.ones(2), "b": jnp.ones((3, 1))}, None, r"got 2 for `xs\['a'\]` and 3 for `xs\['b'\]`"),
        (jnp.ones(2), 3, r"got 3 for `length` and 2 for `xs`"),
    ],
)
def test_lengths_must_agree(xs, length, text):
    with pytest.raises(ValueError, match=text):
        filter_scan(lambda c, x: (c, None), INIT, xs, length)
