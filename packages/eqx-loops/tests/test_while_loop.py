"""`while_loop`: what is true of every kind, and the errors."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
import eqx_loops

KINDS = {
    "lax": {},
    "bounded": {"base": 3},
    "checkpointed": {"checkpoints": 3},
    "segmented": {},
}
every_kind = pytest.mark.parametrize("kind", KINDS)
reverse_kinds = pytest.mark.parametrize("kind", ["bounded", "checkpointed", "segmented"])


def while_loop(*args, kind, **kwargs):
    return eqx_loops.while_loop(*args, kind=kind, **({"max_steps": 60} | KINDS[kind] | kwargs))


def unrolled(cond_fun, body_fun, val, max_steps=60):
    """The oracle: Python's own loop."""
    steps = 0
    while steps < max_steps and cond_fun(val):
        val, steps = body_fun(val), steps + 1
    return val


def rotate(w, x):
    return jnp.sin(w * jnp.roll(x, 1)) + 0.5 * x


def assert_close(left, right):
    assert jtu.tree_structure(left) == jtu.tree_structure(right)
    for x, y in zip(jtu.tree_leaves(left), jtu.tree_leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), rtol=1e-4, atol=1e-5)


def total(loop, w, x, steps):
    """A sum over the states of a loop that closes over `w`, with an int, a bool, a None and what is not differentiated."""

    def body(carry):
        i, odd, x, _, seen = carry
        x = rotate(w, x)
        return i + 1, ~odd, x, None, seen + jnp.where(odd, 2.0, 1.0) * jnp.sum(x * jax.lax.stop_gradient(x))

    init = jnp.array(0), jnp.array(False), x, None, jnp.array(0.0)
    *_, x, _, seen = loop(lambda carry: carry[0] < steps, body, init)
    return seen + jnp.sum(x)


@functools.cache
def gradient_of(kind):
    return jax.jit(jax.value_and_grad(functools.partial(total, functools.partial(while_loop, kind=kind)), (0, 1)))


@reverse_kinds
@hypothesis.settings(max_examples=8)
@hypothesis.given(steps=st.integers(0, 50), w=st.floats(-2, 2, width=32), seed=st.integers(0, 99))
def test_the_gradient_is_that_of_the_unrolled_loop(kind, steps, w, seed):
    w, x = jnp.float32(w), jr.normal(jr.key(seed), (3,))
    expected = jax.value_and_grad(functools.partial(total, unrolled), (0, 1))(w, x, steps)
    assert_close(gradient_of(kind)(w, x, steps), expected)


@every_kind
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_the_value_is_that_of_the_unrolled_loop(kind, steps):
    args = jnp.float32(0.7), jnp.arange(3.0)
    loop = functools.partial(while_loop, kind=kind)
    expected = total(unrolled, *args, steps)
    assert_close(total(loop, *args, steps), expected)
    assert_close(jax.jit(functools.partial(total, loop))(*args, steps), expected)
    with jax.disable_jit():
        assert_close(total(loop, *args, steps), expected)


@reverse_kinds
def test_gradients_under_disable_jit(kind):
    args = jnp.float32(0.7), jnp.arange(3.0), 2
    loop = functools.partial(while_loop, kind=kind, max_steps=4)
    with jax.disable_jit():
        grad = jax.grad(functools.partial(total, loop), (0, 1))(*args)
    assert_close(grad, jax.grad(functools.partial(total, unrolled), (0, 1))(*args))


@every_kind
def test_a_batch_runs_until_its_last_element_has_finished(kind):
    steps = jnp.array([0, 5, 2])
    ws, xs = jnp.array([0.1, 0.2, 0.3]), jr.normal(jr.key(0), (3, 3))
    out = jax.jit(jax.vmap(functools.partial(total, functools.partial(while_loop, kind=kind))))(ws, xs, steps)
    assert_close(list(out), [total(unrolled, *args) for args in zip(ws, xs, steps, strict=True)])


@reverse_kinds
@pytest.mark.parametrize("order", ["vmap of grad", "grad of vmap"])
def test_gradients_in_a_batch(kind, order):
    steps = jnp.array([0, 5, 2])
    ws, xs = jnp.array([0.1, 0.2, 0.3]), jr.normal(jr.key(0), (3, 3))
    of_one = functools.partial(total, functools.partial(while_loop, kind=kind))
    if order == "vmap of grad":
        grads = jax.jit(jax.vmap(jax.grad(of_one, (0, 1))))(ws, xs, steps)
    else:
        grads = jax.jit(jax.grad(lambda ws, xs: jnp.sum(jax.vmap(of_one)(ws, xs, steps)), (0, 1)))(ws, xs)
    each = [jax.grad(functools.partial(total, unrolled), (0, 1))(*args) for args in zip(ws, xs, steps, strict=True)]
    assert_close(grads, jtu.tree_map(lambda *leaves: jnp.stack(leaves), *each))


def nested(outer, inner, w, x, steps):
    def body(carry):
        i, x = carry
        _, x = inner(lambda c: c[0] < i, lambda c: (c[0] + 1, rotate(w, c[1])), (0, x))
        return i + 1, jnp.cos(x)

    return jnp.sum(outer(lambda c: c[0] < steps, body, (0, x))[1])


@reverse_kinds
def test_nested_loops(kind):
    loop = functools.partial(while_loop, kind=kind, max_steps=6)
    args = jnp.float32(0.7), jnp.arange(3.0)
    f = jax.value_and_grad(functools.partial(nested, loop, loop), (0, 1))
    expected = [jax.value_and_grad(functools.partial(nested, unrolled, unrolled), (0, 1))(*args, n) for n in (4, 1)]
    assert_close(jax.jit(f)(*args, 4), expected[0])
    stacked = jtu.tree_map(lambda *leaves: jnp.stack(leaves), *expected)
    assert_close(jax.jit(jax.vmap(f, (None, None, 0)))(*args, jnp.array([4, 1])), stacked)


@reverse_kinds
def test_hessians_are_those_of_the_unrolled_loop(kind):
    args = jnp.float32(0.7), jnp.arange(3.0), 3
    loop = functools.partial(while_loop, kind=kind, max_steps=4)
    hessian = jax.jit(jax.hessian(functools.partial(total, loop), (0, 1)))(*args)
    assert_close(hessian, jax.hessian(functools.partial(total, unrolled), (0, 1))(*args))


@reverse_kinds
@pytest.mark.parametrize("size", [0, 2])
def test_arrays_without_entries_and_carries_without_arrays(kind, size):
    def f(w):
        return jnp.sum(while_loop(lambda x: True, lambda x: w * x, jnp.ones(size), kind=kind, max_steps=3))

    assert_close(jax.value_and_grad(f)(2.0), (jnp.array(size * 8.0), jnp.array(size * 12.0)))
    assert while_loop(lambda _: True, lambda _: None, None, kind=kind, max_steps=3) is None
    assert while_loop(lambda _: True, lambda _: ((), {}), ((), {}), kind=kind, max_steps=3) == ((), {})


@every_kind
def test_no_steps_are_allowed(kind):
    def f(w):
        return while_loop(lambda x: True, lambda x: w * x, w, kind=kind, max_steps=0, checkpoints=None)

    assert f(3.0) == 3.0
    assert jax.grad(f)(3.0) == 1.0


@every_kind
def test_it_stops_at_max_steps(kind):
    def f(n):
        return while_loop(lambda i: i < n, lambda i: i + 1, 0, kind=kind, max_steps=5, checkpoints=2)

    np.testing.assert_array_equal(jax.jit(jax.vmap(f))(jnp.array([3, 5, 8])), [3, 5, 5])


class Pair(eqx_core.Module):
    weight: jax.Array
    name: str = eqx_core.field(static=True)

    def below(self, x):
        return x.weight < self.weight

    def double(self, x):
        return Pair(2 * self.weight * x.weight, x.name)


@every_kind
def test_modules_as_carry_and_their_methods_as_functions(kind):
    @eqx_filter.filter_jit
    def run(pair, start):
        return while_loop(pair.below, pair.double, Pair(start, "start"), kind=kind)

    for bound in (2.0, 3.0):
        out = run(Pair(jnp.array(bound), "bound"), jnp.array(0.5))
        expected = {2.0: 2.0, 3.0: 3.0}[bound]
        assert out.name == "start"
        assert out.weight == expected


@every_kind
def test_arrays_of_every_kind(kind):
    def body(carry):
        key, half, flag, count, z = carry
        key, sub = jr.split(key)
        return key, half + jr.uniform(sub, (), half.dtype), ~flag, count + np.uint8(1), z * 1j

    init = jr.key(0), jnp.zeros((), jnp.bfloat16), np.bool_(False), np.uint8(0), np.complex64(1)
    out = while_loop(lambda carry: carry[3] < 5, body, init, kind=kind)
    expected = unrolled(lambda carry: carry[3] < 5, body, jtu.tree_map(jnp.asarray, init))
    assert jtu.tree_map(lambda x: x.dtype, out) == jtu.tree_map(lambda x: x.dtype, expected)
    np.testing.assert_array_equal(jr.key_data(out[0]), jr.key_data(expected[0]))
    # Compiled, sums are not rounded to 16 bits in between.
    np.testing.assert_allclose(np.float32(out[1]), np.float32(expected[1]), rtol=0.05)
    np.testing.assert_array_equal(out[2:], expected[2:])


@every_kind
def test_64_bits(kind):
    with jax.enable_x64(True):

        def f(x):
            return while_loop(lambda c: c[0] < 9, lambda c: (c[0] + 1, jnp.cos(c[1])), (0, x), kind=kind)[1]

        out = f(0.25)
        assert out.dtype == jnp.float64
        expected = unrolled(lambda c: c[0] < 9, lambda c: (c[0] + 1, np.cos(c[1])), (0, 0.25))[1]
        np.testing.assert_allclose(out, expected, rtol=1e-14)


@reverse_kinds
def test_the_condition_has_no_derivative(kind):
    def f(x):
        def cond(x):
            return eqx_filter.internal.nondifferentiable((x, bound))[0] < bound

        bound = 10 * x
        return while_loop(cond, lambda y: y * x, x, kind=kind)

    assert jax.jit(jax.grad(f))(2.0) == 5 * 2.0**4


@every_kind
def test_numbers_become_strongly_typed_arrays(kind):
    out = while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1]), (0, 1.0), kind=kind)
    assert [(x.dtype.name, x.weak_type) for x in out] == [("int32", False), ("float32", False)]


@every_kind
def test_it_traces_the_functions_anew_in_each_call(kind):
    """JAX keeps traces by the function; equal bound methods of Modules that hold traced arrays are different ones."""

    class Scale(eqx_core.Module):
        by: jax.Array

        def __eq__(self, other):
            return True

        def __hash__(self):
            return 0

        def __call__(self, carry):
            return carry[0] + 1, self.by * carry[1]

    def run(by):
        return while_loop(lambda carry: carry[0] < 2, Scale(by), (0, 1.0), kind=kind)[1]

    assert [jax.jit(run)(by) for by in (2.0, 3.0)] == [4.0, 9.0]
    assert run(jnp.array(5.0)) == 25.0
    if kind != "lax":
        assert jax.grad(run)(5.0) == 10.0


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_what_equinox_gives(kind):
    internal = pytest.importorskip("equinox.internal")
    args = jnp.float32(0.7), jnp.arange(3.0)
    reference_kind = "checkpointed" if kind == "segmented" else kind
    reference = functools.partial(internal.while_loop, kind=reference_kind, max_steps=20)
    ours = functools.partial(while_loop, kind=kind, max_steps=20)
    totals = [functools.partial(total, loop) for loop in (ours, reference)]
    wrapped = [jax.jit(f if kind == "lax" else jax.value_and_grad(f, (0, 1))) for f in totals]
    for steps in (0, 7, 30):
        assert_close(*(f(*args, steps) for f in wrapped))


def error(kind="lax", init=0.0, cond=lambda x: x < 1, body=lambda x: x + 1, **kwargs):
    with pytest.raises((TypeError, ValueError)) as caught:
        eqx_loops.while_loop(cond, body, init, kind=kind, **kwargs)
    return caught.type, str(caught.value)


def test_an_unknown_kind_is_an_error():
    kind, text = error("for")
    assert kind is ValueError
    assert text.startswith(
        "`while_loop(kind=...)` must be one of 'lax', 'bounded', 'checkpointed', 'segmented'; got 'for'."
    )


@pytest.mark.parametrize("bad", [jnp.array(3), -1, True, 2.0, np.int64(3)])
def test_max_steps_must_be_a_python_int(bad):
    for kind in KINDS:
        caught, text = error(kind, max_steps=bad)
        assert caught is ValueError
        assert text.startswith("`while_loop(max_steps=...)` must be a Python int of at least 0; got ")


@pytest.mark.parametrize(("option", "least"), [("checkpoints", 1), ("base", 2), ("levels", 1)])
def test_options_must_be_ints_that_make_sense(option, least):
    caught, text = error("bounded", max_steps=3, **{option: least - 1})
    assert caught is ValueError
    assert text.startswith(f"`while_loop({option}=...)` must be a Python int of at least {least}; got `{least - 1}`.")


@pytest.mark.parametrize("kind", ["bounded", "segmented"])
def test_max_steps_must_be_given(kind):
    caught, text = error(kind)
    assert caught is ValueError
    assert text.startswith(f'`while_loop(max_steps=...)` must be given for `kind="{kind}"`; got None.')


def test_checkpoints_or_max_steps_must_be_given():
    caught, text = error("checkpointed")
    assert caught is ValueError
    assert text.startswith('`while_loop(checkpoints=...)` must be given for `kind="checkpointed"` without `max_steps`')
