import functools
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter.internal import finalise_make_jaxpr, noinline

JITS = pytest.mark.parametrize("jit", [lambda f: f, eqx_filter.filter_jit])
X = jnp.array([0.1, 0.2, 0.3])


def fn(x, y):
    return {"out": jnp.sin(x) * y**2, "sum": jnp.sum(y)}


def total(f):
    return lambda x, y: jnp.sum(f(x, y)["out"]) + f(x, y)["sum"] ** 2


ours = noinline(fn)
TRANSFORMED = {
    "value": lambda f: f,
    "vmap": lambda f: jax.vmap(f, (0, None)),
    "vmap vmap": lambda f: lambda x, y: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(x, y),
    "jvp": lambda f: lambda x, y: jax.jvp(f, (x, y), (y, x)),
    "jvp in y": lambda f: lambda x, y: jax.jvp(lambda y: f(x, y), (y,), (x,)),
    "grad": lambda f: jax.grad(total(f), (0, 1)),
    "vmap grad": lambda f: jax.vmap(jax.grad(total(f)), (0, None)),
    "grad vmap": lambda f: jax.grad(lambda x, y: jnp.sum(jax.vmap(total(f), (0, None))(x, y)), (0, 1)),
    "hessian": lambda f: jax.hessian(total(f), (0, 1)),
    "third": lambda f: jax.jacfwd(jax.jacrev(jax.grad(total(f)), 1)),
    "linearize": lambda f: lambda x, y: jax.linearize(lambda y: f(x, y), y)[1](x),
    "scan": lambda f: lambda x, y: jax.lax.scan(lambda c, _: (f(x, c)["out"], c), y, None, length=3)[0],
    "grad scan": lambda f: jax.grad(
        lambda x, y: jnp.sum(jax.lax.scan(lambda c, _: (f(x, c)["out"], c), y, None, length=3)[0]), (0, 1)
    ),
    "remat": lambda f: jax.grad(jax.checkpoint(total(f))),
}


@JITS
@pytest.mark.parametrize("name", TRANSFORMED)
def test_each_transformation_is_that_of_the_function(jit, name):
    transform = TRANSFORMED[name]
    expected = transform(fn)(X, X + 1)
    out = jit(lambda x, y: transform(ours)(x, y))(X, X + 1)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), out, expected)


def counted():
    calls = []

    def count(x, y):
        calls.append(1)
        return jnp.sin(x) * y

    return calls, noinline(count)


def test_a_function_is_traced_once_for_its_shapes_and_once_to_be_compiled():
    calls, f = counted()
    for _ in range(2):
        jax.block_until_ready(jax.jit(lambda x: f(f(f(f(x, x), x), x), x))(X))
        assert len(calls) == 2


def test_a_gradient_is_one_program_more():
    calls, f = counted()
    value, grad = jax.jit(jax.value_and_grad(lambda x: jnp.sum(jax.vmap(f)(x, x))))(X)
    jax.block_until_ready((value, grad))
    assert len(calls) == 3


@pytest.mark.parametrize("transform", [lambda f: f, jax.vmap, lambda f: jax.vmap(jax.grad(f))])
def test_functions_are_exchanged_without_compiling_again(transform):
    traces = []

    @eqx_filter.filter_jit
    def outer(f, x):
        traces.append(1)
        return transform(f)(x)

    sin, cos, cube = (noinline(f, same) for f in (jnp.sin, jnp.cos, lambda x: x**3))
    for f, plain in ((sin, jnp.sin), (cos, jnp.cos), (cube, lambda x: x**3), (sin, jnp.sin)):
        np.testing.assert_allclose(outer(f, X), transform(plain)(X), rtol=1e-5)
    assert len(traces) == 1


def test_the_arrays_of_a_function_are_arguments():
    class Scale(eqx_core.Module):
        by: jax.Array
        name: str = "scale"

        def __call__(self, x):
            assert self.name == "scale"
            return self.by * x

    model = noinline(Scale(jnp.array(3.0)))
    grad = eqx_filter.filter_jit(eqx_filter.filter_grad(lambda model, x: jnp.sum(model(x))))(model, X)
    np.testing.assert_allclose(grad.arrays.by, jnp.sum(X), rtol=1e-6)
    doubled = eqx_core.tree_at(lambda model: model.arrays.by, model, jnp.array(6.0))
    np.testing.assert_allclose(jax.jit(lambda x: doubled(x))(X), 6 * X, rtol=1e-6)


@JITS
def test_arguments_and_results_may_be_anything(jit):
    def anything(x, n, *, flag):
        return {"x": x * n, "flag": flag, "none": None, "i": jnp.arange(2), "key": jr.key(3)}

    out = jit(lambda x: noinline(anything)(x, 2, flag="yes"))(X)
    np.testing.assert_allclose(out["x"], 2 * X)
    assert (out["flag"], out["none"], out["i"].tolist()) == ("yes", None, [0, 1])
    assert out["key"].dtype == jr.key(3).dtype
    assert jr.key_data(out["key"]).tolist() == [0, 3]
    assert jit(lambda: noinline(lambda: (1, "a"))())() == (1, "a")


@JITS
def test_keys_may_be_arguments(jit):
    out = jit(lambda key: noinline(jr.normal)(key))(jr.key(0))
    assert out == jr.normal(jr.key(0))


def test_only_some_of_the_operands_may_be_mapped():
    mapped = jax.jit(jax.vmap(lambda x, y: ours(x, y)["sum"], (0, None)))
    np.testing.assert_allclose(mapped(X, X), jnp.full(3, jnp.sum(X)), rtol=1e-6)
    unmapped = jax.vmap(lambda x: ours(X, X)["sum"], out_axes=None)
    np.testing.assert_allclose(unmapped(X), jnp.sum(X), rtol=1e-6)


def test_each_entry_of_a_batch_may_have_a_function_of_its_own():
    sin, cos = (noinline(f, same) for f in (jnp.sin, jnp.cos))
    arrays, static = eqx_filter.partition([sin, cos], eqx_filter.is_array)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)

    def call(f, x):
        return jax.grad(lambda x: eqx_filter.combine(f, static[0])(x))(x)

    out = jax.jit(jax.vmap(call))(stacked, X[:2])
    np.testing.assert_allclose(out, [np.cos(0.1), -np.sin(0.2)], rtol=1e-5)


def same(_, x):
    return x


def test_linear_functions_are_transposed():
    triple = noinline(lambda x: 3 * x)
    assert jax.linear_transpose(triple, 1.0)(2.0) == (6.0,)
    assert jax.jit(jax.linear_transpose(lambda x: jax.vmap(triple)(x), X))(X)[0].tolist() == (3 * X).tolist()


def test_a_derivative_in_what_has_none_is_zero():
    f = noinline(lambda x, n: (x * n, n + 1))
    assert jax.grad(lambda x: f(x, jnp.array(3.0))[0])(2.0) == 3.0
    assert jax.jvp(lambda x: f(x, jnp.array(3))[1], (2.0,), (1.0,))[1].dtype == jax.dtypes.float0
    assert jax.grad(lambda x: noinline(lambda: jnp.array(1.0))() * x)(2.0) == 1.0


def test_it_is_one_equation_of_the_program():
    jaxpr = jax.make_jaxpr(ours)(X, X)
    assert [eqn.primitive.name for eqn in jaxpr.eqns] == ["noinline"]
    assert "sin" not in str(jaxpr)
    assert "sin" in str(finalise_make_jaxpr(ours)(X, X))
    grads = finalise_make_jaxpr(jax.grad(total(ours)))(X, X)
    assert "noinline" not in str(grads)
    np.testing.assert_allclose(
        jax.core.eval_jaxpr(grads.jaxpr, grads.consts, X, X)[0], jax.grad(total(fn))(X, X), rtol=1e-5
    )


def test_one_inside_of_another():
    inner = noinline(lambda x: jnp.sin(x) * x)
    outer = noinline(lambda x: inner(x) + inner(2 * x))
    plain = lambda x: jnp.sin(x) * x + jnp.sin(2 * x) * 2 * x  # noqa: E731
    for transform in (lambda f: f, jax.vmap, lambda f: jax.vmap(jax.grad(f))):
        np.testing.assert_allclose(transform(outer)(X), transform(plain)(X), rtol=1e-5)
        np.testing.assert_allclose(jax.jit(transform(lambda x: outer(x)))(X), transform(plain)(X), rtol=1e-5)


def test_large_arrays_and_many_calls_do_not_wait_for_each_other():
    script = """
import jax, jax.numpy as jnp
from eqx_filter.internal import noinline
f = noinline(lambda x: x @ x / 500)
for _ in range(3):
    f = noinline(lambda x, f=f: f(x @ x / 500) + f(x))
x = jnp.ones((500, 500))
out = jax.jit(lambda x: jax.lax.scan(lambda c, _: (f(c) / 8, None), x, None, length=20)[0])(x)
print(out[0, 0])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stdout == "1.0\n", done.stderr


def test_a_function_that_does_not_return_what_is_announced_is_found_out():
    short = noinline(lambda x: x[:2], same)
    with pytest.raises(
        ValueError, match=r"^`noinline\(fn=\.\.\.\)` must return what `abstract_fn` does, `.*\(3,\).*`; got `.*\(2,\)"
    ):
        short(X)
    other = noinline(lambda x: (x, "b"), lambda _, x: (x, "a"))
    with pytest.raises(ValueError, match="Exchange it only for functions that return the same structure"):
        other(X)


def test_equal_functions_have_the_same_number():
    assert noinline(jnp.sin).number == noinline(jnp.sin).number
    assert noinline(jnp.sin).number != noinline(jnp.cos).number
    assert noinline(fn).__name__ == "fn"


def test_clearing_caches_costs_compiling_again_and_nothing_else():
    calls, f = counted()
    f(X, X)
    eqx_core.clear_caches()
    np.testing.assert_allclose(f(X, X), jnp.sin(X) * X)
    assert len(calls) == 4


def test_it_works_without_compiling():
    with jax.disable_jit():
        np.testing.assert_allclose(ours(X, X)["out"], fn(X, X)["out"])


def test_what_fails_in_it_is_an_error_of_the_program_and_nothing_is_logged(caplog):
    def explode(x):
        raise ValueError("mine")

    same = lambda _, x: x  # noqa: E731
    for fn, kind, text in (
        (explode, (ValueError, RuntimeError), "mine"),
        (lambda x: eqx_filter.error_if(x, x < 0, "negative"), eqx_filter.EquinoxRuntimeError, "negative"),
    ):
        for transform in (lambda f: f, jax.vmap):
            fun = transform(noinline(fn, same))
            with pytest.raises(kind, match=text):
                eqx_filter.filter_jit(lambda x, fun=fun: fun(x))(-jnp.ones(1))
    assert caplog.records == []
