"""What is private or moving in JAX does what it should in every version."""

import jax
import jax.numpy as jnp
import numpy as np

import eqx_loops._jax_compat

compat = eqx_loops._jax_compat


def test_a_primitive_with_rules_of_our_own():
    """Twice the first operand, with all that a rule is told."""
    seen = []
    primitive = compat.new_primitive("twice")
    primitive.def_impl(lambda x, y: 2 * x)
    primitive.def_abstract_eval(lambda x, y: x)
    compat.define_lowering(primitive, lambda x, y: 2 * x)

    def jvp(primals, tangents):
        seen.append([compat.is_zero(tangent) for tangent in tangents])
        return primitive.bind(*primals), primitive.bind(*map(compat.materialise, tangents))

    def transpose(cotangent, x, y):
        seen.append([compat.is_linear(x), compat.is_linear(y)])
        return [2 * cotangent, None]

    def batch(operands, axes):
        seen.append(axes)
        return primitive.bind(*operands), axes[0]

    compat.define_derivatives(primitive, jvp, transpose)
    compat.define_batching(primitive, batch)
    f = jax.jit(lambda x: primitive.bind(x, jnp.array(3.0)))
    assert f(5.0) == 10.0
    assert jax.grad(f)(5.0) == 2.0
    np.testing.assert_array_equal(jax.vmap(f)(jnp.arange(3.0)), [0.0, 2.0, 4.0])
    assert [list(entry) for entry in seen] == [[False, True], [True, False], [0, None]]
    assert compat.is_zero(None)
    assert not compat.is_zero(jnp.array(0.0))


def test_that_which_does_not_exist_is_none():
    assert compat._private("jax._src.core", "NoSuchThing") is None
    assert compat._private("jax._src.no_such_module", "NoSuchThing") is None


def test_an_effectful_identity_is_not_computed_a_second_time_on_the_way_back():
    calls = []
    primitive = compat.effectful_identity("seen_once")

    def f(x):
        struct = jax.ShapeDtypeStruct((), jnp.float32)
        number = primitive.bind(jax.pure_callback(lambda: calls.append(0) or np.float32(2.0), struct))
        return jnp.sin(number * x)

    for transform in (jax.grad, lambda f: jax.jit(jax.grad(f))):
        calls.clear()
        np.testing.assert_allclose(transform(jax.checkpoint(f))(0.5), 2 * np.cos(1.0), rtol=1e-6)
        assert len(calls) == 1
    np.testing.assert_array_equal(jax.vmap(primitive.bind)(jnp.arange(3.0)), jnp.arange(3.0))


def test_equations_are_bound_as_they_were():
    @jax.custom_jvp
    def exp(x):
        return jnp.exp(x)

    exp.defjvps(lambda t, ans, x: t * ans)

    def f(x):
        return jax.lax.cond(x > 0, jnp.sin, jnp.cos, x), exp(x), jnp.linalg.qr(x[None, None])[0]

    closed = jax.make_jaxpr(f)(0.5)
    values = dict(zip(closed.jaxpr.invars, [jnp.float32(0.5)], strict=True))
    for eqn in closed.jaxpr.eqns:
        args = [var.val if hasattr(var, "val") else values[var] for var in eqn.invars]
        values.update(zip(eqn.outvars, compat.bind_equation(eqn, args), strict=True))
    for var, expected in zip(closed.jaxpr.outvars, f(jnp.float32(0.5)), strict=True):
        np.testing.assert_array_equal(values[var], expected)
    whole = compat.eval_jaxpr(closed.jaxpr, closed.consts, 0.5)
    np.testing.assert_array_equal(whole[0], f(jnp.float32(0.5))[0])
