import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_filter
from eqx_filter.internal import nondifferentiable, nondifferentiable_backward, nondifferentiable_backward_p

ONE, TWO = jnp.array(1.0), jnp.array(2.0)
TREE = {"x": jnp.ones(2), "n": jnp.array(1), "s": "s", "f": 1.0, "none": None, "fn": jnp.sin, "np": np.ones(2)}
BOTH = pytest.mark.parametrize("guard", [nondifferentiable, nondifferentiable_backward])
JITS = pytest.mark.parametrize("jit", [lambda f: f, jax.jit, eqx_filter.filter_jit])


@BOTH
def test_it_is_the_identity(guard):
    assert guard(TREE) is not TREE
    assert all(guard(TREE)[name] is value for name, value in TREE.items())
    assert jax.jit(lambda x: guard((x, "s", 1))[0])(TWO) == 2.0
    assert jax.vmap(guard)(jnp.arange(3.0)).tolist() == [0.0, 1.0, 2.0]
    assert jax.jit(jax.vmap(lambda x: guard({"x": x})["x"]))(jnp.arange(3.0)).tolist() == [0.0, 1.0, 2.0]


@BOTH
def test_what_is_not_differentiated_passes(guard):
    assert jax.grad(lambda x: x * guard(TWO))(ONE) == 2.0
    assert jax.grad(lambda x: x * guard(jax.lax.stop_gradient(x)))(TWO) == 2.0
    assert jax.grad(lambda x: x * guard(jnp.argmax(x[None])).astype(float))(TWO) == 0.0


@JITS
def test_any_tangent_is_an_error(jit):
    fun = jit(lambda x: nondifferentiable((x, TWO))[0])
    for differentiate in (jax.grad, lambda f: lambda x: jax.jvp(f, (x,), (x,)), jax.jacfwd, eqx_filter.filter_grad):
        with pytest.raises(RuntimeError, match=r"^Unexpected tangent\. This operation cannot be autodifferentiated\."):
            differentiate(fun)(ONE)
    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.vmap(jax.grad(fun))(jnp.ones(2))
    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(lambda x: jnp.sum(jax.vmap(fun)(x)))(jnp.ones(2))


@JITS
def test_a_tangent_is_an_error_also_if_the_result_is_unused(jit):
    def fun(x):
        nondifferentiable(x)
        return x

    with pytest.raises(RuntimeError, match="Unexpected tangent"):
        jax.grad(jit(fun))(ONE)


@BOTH
def test_the_text_can_be_chosen(guard):
    kind = "tangent" if guard is nondifferentiable else "cotangent"
    with pytest.raises(RuntimeError, match=rf"^Unexpected {kind}\. My solver cannot be .*autodifferentiated\."):
        jax.grad(lambda x: guard(x, name="My solver"))(ONE)
    with pytest.raises(RuntimeError, match=r"^No\."):
        jax.grad(lambda x: guard(x, name="My solver", msg="No."))(ONE)


@JITS
def test_backward_allows_tangents(jit):
    fun = jit(lambda x: nondifferentiable_backward((x**2, TWO))[0])
    assert jax.jvp(fun, (TWO,), (ONE,)) == (4.0, 4.0)
    assert jax.jacfwd(fun)(TWO) == 4.0
    assert jax.vmap(lambda x: jax.jvp(fun, (x,), (ONE,))[1])(jnp.arange(2.0)).tolist() == [0.0, 2.0]
    assert eqx_filter.filter_jvp(lambda x: nondifferentiable_backward((x, TWO)), (TWO,), (ONE,))[1] == (1.0, None)


@JITS
def test_backward_refuses_cotangents(jit):
    fun = jit(lambda x: nondifferentiable_backward(x))
    text = r"^Unexpected cotangent\. This operation cannot be reverse-mode autodifferentiated\."
    with pytest.raises(RuntimeError, match=text):
        jax.grad(fun)(ONE)
    with pytest.raises(RuntimeError, match=text):
        jax.grad(lambda x: 0 * fun(x))(ONE)
    with pytest.raises(RuntimeError, match=text):
        jax.vmap(jax.grad(fun))(jnp.ones(2))
    with pytest.raises(RuntimeError, match=text):
        jax.grad(lambda x: jax.jvp(fun, (x,), (x,))[1])(ONE)


@JITS
def test_backward_allows_symbolic_zeros(jit):
    assert jax.grad(jit(lambda x: (nondifferentiable_backward(x), x)[1]))(ONE) == 1.0
    assert jax.grad(jit(lambda x: jax.lax.stop_gradient(nondifferentiable_backward(x)) + x))(ONE) == 1.0


def test_backward_stays_in_the_program():
    names = [
        eqn.primitive for eqn in jax.make_jaxpr(lambda x: jax.jvp(nondifferentiable_backward, (x,), (x,)))(ONE).eqns
    ]
    assert names == [nondifferentiable_backward_p] * 2


@JITS
def test_backward_without_symbolic_allows_zeros_that_were_computed(jit):
    guard = jit(lambda x: nondifferentiable_backward(x, symbolic=False))
    assert jax.grad(lambda x: 0 * guard(x))(ONE) == 0.0
    assert jax.vmap(jax.grad(lambda x: 0 * guard(x)))(jnp.ones(2)).tolist() == [0.0, 0.0]
    assert jax.jvp(guard, (TWO,), (ONE,)) == (2.0, 1.0)


@JITS
@pytest.mark.parametrize("batched", [False, True])
def test_backward_without_symbolic_refuses_others_at_run_time(jit, batched, caplog):
    grad = jax.grad(lambda x: x * nondifferentiable_backward(x, name="My loop", symbolic=False))
    grad, x = (jax.vmap(grad), jnp.array([0.0, 1.0])) if batched else (grad, ONE)
    run = jit(grad)
    kind = (ValueError, RuntimeError) if jit is jax.jit else eqx_filter.EquinoxRuntimeError
    with pytest.raises(kind, match=r"Unexpected cotangent\. My loop cannot be reverse-mode autodifferentiated\."):
        jax.block_until_ready(run(x))
    assert caplog.records == []
