import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import eqx_core
import eqx_filter
from eqx_filter import filter_jvp

ONE, TWO, THREE = jnp.array(1.0), jnp.array(2.0), jnp.array(3.0)


@pytest.fixture(params=["looking", "asking"], autouse=True, scope="module")
def how(request):
    """Tell outputs that move from others by looking at tracers, and by the public means that need none of that."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "asking":
            patch.setitem(filter_jvp.__globals__, "has_tangent", lambda level, tracers: None)
        yield request.param


class Affine(eqx_core.Module):
    weight: jax.Array
    count: int
    act: object

    def __call__(self, x):
        return self.act(self.weight * x) * self.count


def are_none(tree):
    return jtu.tree_map(lambda leaf: leaf is None, tree, is_leaf=lambda leaf: leaf is None)


@settings(max_examples=20)
@given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32), st.floats(-3, 3, width=32))
def test_on_arrays_it_is_jax_jvp(x, y, t):
    def fun(x, y):
        return (jnp.sin(x) * y, x + y)

    primals, tangents = (jnp.float32(x), jnp.float32(y)), (jnp.float32(t), jnp.float32(1))
    got, expected = filter_jvp(fun, primals, tangents), jax.jvp(fun, primals, tangents)
    assert jtu.tree_structure(got) == jtu.tree_structure(expected)
    assert all(map(jnp.array_equal, jtu.tree_leaves(got), jtu.tree_leaves(expected)))


def test_on_models_it_is_jvp_of_a_partition():
    model = Affine(TWO, 3, jnp.tanh)
    out, tangent = filter_jvp(lambda m, x: m(x), (model, THREE), (Affine(ONE, None, None), None))
    expected = jax.jvp(lambda w: Affine(w, 3, jnp.tanh)(THREE), (TWO,), (ONE,))
    assert (out, tangent) == expected


def test_the_callable_may_be_anything():
    model = Affine(TWO, 3, jnp.sin)
    expected = jax.jvp(model, (THREE,), (ONE,))
    callables = [model, lambda x: model(x), eqx_core.Partial(lambda m, x: m(x), model), jax.jit(lambda x: model(x))]
    for fn in [*callables, eqx_filter.filter_jit(model), model.__call__]:
        np.testing.assert_allclose(filter_jvp(fn, (THREE,), (ONE,)), expected, rtol=1e-6)


def outputs(a, b):
    return a, b, a * b, jnp.sin(b), jax.lax.stop_gradient(a), jnp.ones(2)


NONE_OF_OUTPUTS = (False, True, False, True, True, True)


def through_scan(a, b):
    def step(carry, _):
        return ((carry[0] * a, carry[1] * b), carry)

    return jax.lax.scan(step, (a, b), None, length=2)


def through_cond(a, b):
    return jax.lax.cond(b > 0, lambda: (a, b), lambda: (2 * a, 2 * b))


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (outputs, NONE_OF_OUTPUTS),
        (jax.jit(outputs), NONE_OF_OUTPUTS),
        (eqx_filter.filter_jit(outputs), NONE_OF_OUTPUTS),
        (jax.checkpoint(outputs), NONE_OF_OUTPUTS),
        (through_scan, ((False, True), (False, True))),
        (through_cond, (False, True)),
        (lambda a, b: jax.grad(lambda a, b: a * b, argnums=(0, 1))(a, b), (True, False)),
        (lambda a, b: jax.vmap(lambda c: (c, b, c * b))(jnp.stack([a, a])), (False, True, False)),
    ],
)
@pytest.mark.parametrize("outer", ["eager", "jit", "jvp", "grad", "vmap", "jvp of jit"])
def test_what_does_not_depend_on_a_tangent_has_none(fn, expected, outer):
    seen = []

    def inner(b):
        out, tangent = filter_jvp(fn, (TWO, b), (ONE, None))
        seen.append(are_none(tangent))
        return sum(jnp.sum(leaf) for leaf in jtu.tree_leaves(tangent)) + sum(map(jnp.sum, jtu.tree_leaves(out)))

    run = {
        "eager": inner,
        "jit": jax.jit(inner),
        "jvp": lambda b: jax.jvp(inner, (b,), (ONE,)),
        "grad": jax.grad(inner),
        "vmap": lambda b: jax.vmap(inner)(jnp.stack([b, b])),
        "jvp of jit": lambda b: jax.jvp(jax.jit(inner), (b,), (ONE,)),
    }
    run[outer](THREE)
    assert seen
    assert all(none == expected for none in seen)


@pytest.mark.parametrize("wrap", [lambda f: f, eqx_filter.filter_jit, eqx_filter.filter_checkpoint])
def test_two_levels_are_told_apart(wrap):
    def inner(b):
        return filter_jvp(wrap(lambda a: (a, b, a * b, jnp.sin(b), 3, "s")), (TWO,), (ONE,))

    (out, out_dot), (tangent, tangent_dot) = filter_jvp(inner, (THREE,), (ONE,))
    assert are_none(out_dot) == (False, True, False, True, True, True)
    assert are_none(tangent) == (True, False, False, False, True, True)
    assert are_none(tangent_dot) == (True, True, False, True, True, True)
    np.testing.assert_allclose(out[:4], [2.0, 3.0, 6.0, np.sin(3.0)], rtol=1e-6)
    assert out[4:] == (3, "s")
    assert out_dot[0] == 1.0
    assert out_dot[2] == 3.0
    np.testing.assert_allclose(tangent[1:4], [1.0, 2.0, np.cos(3.0)], rtol=1e-6)
    assert tangent_dot[2] == 1.0


def test_two_levels_with_jit_between_and_around():
    def inner(b):
        _, tangent = filter_jvp(lambda a: (a * b, b), (TWO,), (ONE,))
        assert are_none(tangent) == (False, True)
        return tangent[0]

    for fn in (jax.jit(inner), eqx_filter.filter_jit(inner)):
        assert filter_jvp(fn, (THREE,), (ONE,)) == (3.0, 1.0)
        assert jax.jit(lambda x, fn=fn: filter_jvp(fn, (x,), (ONE,)))(THREE) == (3.0, 1.0)


def test_three_levels():
    def third(c):
        return filter_jvp(lambda b: filter_jvp(lambda a: a**4, (b,), (ONE,))[1], (c,), (ONE,))[1]

    assert filter_jvp(third, (TWO,), (ONE,)) == (48.0, 48.0)


def test_what_carries_only_an_outer_tracer_has_none():
    def outer(b):
        out, tangent = filter_jvp(lambda a: b, (TWO,), (ONE,))
        assert tangent is None
        return out * 2

    assert filter_jvp(outer, (THREE,), (ONE,)) == (6.0, 2.0)
    assert jax.grad(outer)(THREE) == 2.0
    assert jax.jvp(outer, (THREE,), (ONE,)) == (6.0, 2.0)
    assert jax.vmap(outer)(jnp.arange(2.0)).tolist() == [0.0, 2.0]


def test_results_can_be_differentiated_and_batched():
    def along(x):
        return filter_jvp(lambda a: (jnp.sin(a), "s"), (x,), (ONE,))[1][0]

    np.testing.assert_allclose(jax.grad(along)(TWO), -np.sin(2.0), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(along)(jnp.arange(3.0)), np.cos(np.arange(3.0)), rtol=1e-6)
    linear = jax.linear_transpose(lambda t: filter_jvp(jnp.sin, (TWO,), (t,))[1], ONE)
    np.testing.assert_allclose(linear(ONE)[0], np.cos(2.0), rtol=1e-6)


def test_integers_and_booleans_have_no_tangent():
    def fn(x):
        return (jnp.argmax(x), x > 0, x.astype(int), x)

    _, tangent = filter_jvp(fn, (jnp.ones(2),), (jnp.ones(2),))
    assert are_none(tangent) == (True, True, True, False)


def test_all_none_still_calls_the_function():
    called = []
    out, tangent = filter_jvp(lambda x, s: called.append(x) or (x, s, None), (TWO, "s"), (None, None))
    assert called == [TWO]
    assert out == (2.0, "s", None)
    assert tangent == (None, None, None)


def test_keyword_arguments_are_held_fixed():
    out, tangent = filter_jvp(lambda x, *, f, by: (f(x * by), by), (TWO,), (ONE,), f=jnp.square, by=THREE)
    assert out == (36.0, 3.0)
    assert tangent == (36.0, None)


def test_python_floats_and_numpy_arrays_are_legal_primals():
    assert filter_jvp(lambda x: (2 * x, x), (1.0,), (3.0,)) == ((2.0, 1.0), (6.0, 3.0))
    x = np.ones(2, np.float32)
    out, tangent = filter_jvp(jnp.square, (x,), (x,))
    assert out.tolist() == [1.0, 1.0]
    assert tangent.tolist() == [2.0, 2.0]


def test_float0_is_a_zero():
    zero = np.zeros((), jax.dtypes.float0)
    assert filter_jvp(lambda n, x: (n, n * x), (jnp.array(2), 3.0), (zero, 1.0))[1] == (None, 2.0)


def test_lists_do_as_sequences():
    assert filter_jvp(lambda x, y: x * y, [TWO, THREE], [ONE, None]) == (6.0, 3.0)


def test_outputs_may_be_keys_structs_and_nones():
    key, struct = jr.key(0), jax.ShapeDtypeStruct((), jnp.float32)
    out, tangent = jax.jit(lambda x: filter_jvp(lambda x: (key, None, x), (x,), (ONE,)))(TWO)
    assert jnp.array_equal(jr.key_data(out[0]), jr.key_data(key))
    assert tangent == (None, None, 1.0)
    assert filter_jvp(lambda x: (struct, x), (TWO,), (ONE,)) == ((struct, 2.0), (None, 1.0))


def test_it_leaks_no_tracers():
    with jax.checking_leaks():
        out, tangent = filter_jvp(jax.jit(lambda a, b: (a * b, b)), (TWO, THREE), (ONE, None))
    assert (out, tangent) == ((6.0, 3.0), (3.0, None))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_tangents_have_the_dtype_of_the_array(dtype):
    x = jnp.array(2.0, dtype)
    assert filter_jvp(lambda x: x * x, (x,), (x,))[1].dtype == dtype


@pytest.mark.parametrize(
    ("primals", "tangents", "detail"),
    [
        ((TWO, THREE), (ONE,), r"there is none at `primals\[1\]`"),
        ((TWO,), (ONE, ONE), r"there is one at `tangents\[1\]`"),
        ((TWO, [TWO]), (ONE, None), r"there is none at `primals\[1\]\[0\]`"),
        ((TWO,), [ONE], "different types"),
    ],
)
def test_the_structures_must_be_the_same(primals, tangents, detail):
    with pytest.raises(ValueError, match=rf"`filter_jvp\(primals=..., tangents=...\)` must have the same .*{detail}"):
        filter_jvp(lambda *args: args, primals, tangents)


@pytest.mark.parametrize(
    ("primal", "tangent", "error", "detail"),
    [
        ("s", ONE, TypeError, r"must be None, as `'s'` cannot be differentiated; got `.*f32\[\]`"),
        (1, 1.0, TypeError, "must be None, as `1` cannot"),
        (jnp.array(1), ONE, TypeError, r"must be None, as `.*i32\[\]` cannot"),
        (None, ONE, TypeError, "must be None, as `None` cannot"),
        (ONE, jnp.array(1), TypeError, r"must have the dtype of its primal, .*f32\[\]`; got .*i32\[\]"),
        (ONE, "s", TypeError, "must be an array or None; got `'s'`"),
        (ONE, jnp.ones(2), ValueError, r"must have the shape of its primal, .*f32\[\]`; got `f32\[2\]"),
    ],
)
def test_a_tangent_must_fit_its_primal(primal, tangent, error, detail):
    with pytest.raises(error, match=rf"`filter_jvp\(tangents=...\)`: the leaf `tangents\[0\]\['k'\]` {detail}"):
        filter_jvp(lambda x: x, ({"k": primal},), ({"k": tangent},))


@pytest.mark.parametrize("level", [1, 2])
def test_it_agrees_with_equinox(level):
    equinox = pytest.importorskip("equinox")

    def run(jvp):
        def inner(b):
            return jvp(lambda a: (a, b, a * b, jnp.sin(b), 3, "s"), (TWO,), (ONE,))

        return inner(THREE) if level == 1 else jvp(inner, (THREE,), (ONE,))

    ours, theirs = run(filter_jvp), run(equinox.filter_jvp)
    assert jtu.tree_structure(ours) == jtu.tree_structure(theirs)
    assert jtu.tree_leaves(ours) == jtu.tree_leaves(theirs)


def test_this_version_of_jax_lets_tracers_be_looked_at(how):
    seen, namespace = [], filter_jvp.__globals__

    def looking(level, arrays):
        seen.append(namespace["has_tangent"](level, arrays))
        return namespace["_ask_which_move"](level, arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(namespace, "_which_move", looking)
        filter_jvp(jax.jit(lambda a, b: (a, b * a, b)), (TWO, THREE), (ONE, None))
        jax.jit(lambda b: filter_jvp(lambda a: (a, b, a * b), (TWO,), (ONE,))[0])(THREE)
    assert seen == ([[True, True], [True, False, True]] if how == "looking" else [None, None])
