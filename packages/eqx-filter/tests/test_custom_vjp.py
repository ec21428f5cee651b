import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_custom_vjp

ONE, TWO, THREE = jnp.array(1.0), jnp.array(2.0), jnp.array(3.0)


class Scale(eqx_core.Module):
    by: jax.Array
    name: str

    def __call__(self, x):
        return self.by * x


def recording(fn=lambda x, *args, **kwargs: x**2):
    """Return a function whose gradient is ten times the true one, and what its rules were called with."""
    seen = []
    wrapped = filter_custom_vjp(fn)

    @wrapped.def_fwd
    def fwd(*args, **kwargs):
        seen.append((args, kwargs))
        return fn(*args[1:], **kwargs), ("residual", args[1])

    @wrapped.def_bwd
    def bwd(*args, **kwargs):
        seen.append((args, kwargs))
        residuals, grad_out, *_ = args
        assert residuals[0] == "residual"
        return None if grad_out is None else 20 * residuals[1] * grad_out

    assert (fwd, bwd) == (None, None)
    return wrapped, seen


def product(fn=lambda pair: pair["a"] * pair["b"]):
    """Return a function of a dict, with the true gradient, and the `perturbed` its rules were called with."""
    seen = []
    wrapped = filter_custom_vjp(fn)

    @wrapped.def_fwd
    def fwd(perturbed, pair):
        return fn(pair), (pair, perturbed, "s")

    @wrapped.def_bwd
    def bwd(residuals, grad_out, perturbed, pair):
        saved, perturbed_then, s = residuals
        assert s == "s"
        assert perturbed_then == perturbed
        seen.append(perturbed)
        return {"a": grad_out * saved["b"], "b": grad_out * pair["a"] if perturbed["b"] else None}

    return wrapped, seen


def test_the_rules_are_used_in_reverse_mode():
    fn, _ = recording()
    assert fn(THREE) == 9.0
    assert jax.grad(fn)(THREE) == 60.0
    assert jax.value_and_grad(fn)(THREE) == (9.0, 60.0)
    assert eqx_filter.filter_grad(fn)(THREE) == 60.0
    assert jax.jacrev(fn)(THREE) == 60.0
    assert eqx_filter.filter_vjp(fn, THREE)[1](ONE) == (60.0,)


@pytest.mark.parametrize("jit", [jax.jit, eqx_filter.filter_jit])
def test_the_rules_are_used_under_jit_vmap_and_scan(jit):
    fn, _ = recording()
    assert jit(jax.grad(fn))(THREE) == 60.0
    assert jax.grad(jit(fn))(THREE) == 60.0
    assert jax.vmap(jax.grad(fn))(jnp.arange(3.0)).tolist() == [0.0, 20.0, 40.0]
    assert jax.grad(lambda x: jnp.sum(jax.vmap(fn)(x)))(jnp.arange(3.0)).tolist() == [0.0, 20.0, 40.0]
    assert jax.grad(lambda x: jax.lax.scan(lambda c, _: (fn(c), None), x, length=1)[0])(THREE) == 60.0
    assert jax.grad(jax.checkpoint(fn))(THREE) == 60.0
    assert jax.grad(jax.grad(fn))(THREE) == 20.0


@pytest.mark.parametrize("value", [3.0, THREE, jnp.array(3.0, jnp.float16)])
def test_python_scalars_have_the_right_gradient(value):
    fn = filter_custom_vjp(lambda x: x**2)
    fn.def_fwd(lambda perturbed, x: (x**2, 2 * x))
    fn.def_bwd(lambda residuals, grad_out, perturbed, x: residuals * grad_out)
    assert jax.grad(fn)(value) == 6.0
    assert jax.grad(jax.jit(fn))(value) == 6.0
    assert fn(value) == 9.0
    identity = filter_custom_vjp(lambda x: x)
    identity.def_fwd(lambda perturbed, x: (x, x))
    identity.def_bwd(lambda residuals, grad_out, perturbed, x: grad_out)
    assert jax.grad(identity)(value) == 1.0


def test_a_python_scalar_that_is_not_differentiated_stays_one():
    fn, _ = recording(lambda x, *args: x * len(args))
    assert fn(3.0, "a", "b") == 6.0
    assert type(fn(3.0, "a")) is float


def test_the_rules_see_everything():
    x = {"x": THREE, "y": TWO, "n": jnp.array(1), "s": "s", "f": 2.0, "m": Scale(TWO, "scale")}
    seen = []

    @filter_custom_vjp
    def fn(x, *args, **kwargs):
        return x["x"] * 2, 3, jnp.array(1), x["y"], "s", None

    @fn.def_fwd
    def fwd(*args, **kwargs):
        seen.append((args, kwargs))
        return fn.fn(*args[1:], **kwargs), {"r": ONE, "s": "s", "n": None}

    @fn.def_bwd
    def bwd(*args, **kwargs):
        seen.append((args, kwargs))
        return {"x": args[1][0] * 10, "y": None, "n": None, "s": None, "f": None, "m": Scale(None, None)}

    grad = jax.grad(lambda a: fn(x | {"x": a}, TWO, "b", k=jnp.array(3))[0])(THREE)
    assert grad == 10.0
    perturbed = {"x": True, "y": False, "n": False, "s": False, "f": False, "m": Scale(False, False)}
    (fwd_args, fwd_kwargs), (bwd_args, bwd_kwargs) = seen
    assert fwd_args == (perturbed, x, 2.0, "b")
    assert bwd_args == ({"r": 1.0, "s": "s", "n": None}, (1.0, None, None, None, None, None), perturbed, x, 2.0, "b")
    assert fwd_kwargs == bwd_kwargs == {"k": 3}


def test_outputs_may_be_anything():
    fn = filter_custom_vjp(lambda x: (x, "s", jnp.sin, None, 3, jr.key(0)))
    fn.def_fwd(lambda perturbed, x: (fn.fn(x), None))
    fn.def_bwd(lambda residuals, grad_out, perturbed, x: 10 * grad_out[0])
    assert fn(THREE)[:5] == (3.0, "s", jnp.sin, None, 3)
    assert jax.grad(lambda x: fn(x)[0])(THREE) == 10.0
    grad, aux = eqx_filter.filter_grad(lambda x: (fn(x)[0], fn(x)[1:5]), has_aux=True)(THREE)
    assert (grad, aux) == (10.0, ("s", jnp.sin, None, 3))


def test_one_trace_serves_each_choice_of_perturbed():
    fn, seen = product()
    traces = []

    @jax.jit
    def call(a, b):
        traces.append(None)
        return fn({"a": a, "b": b})

    assert call(TWO, THREE) == 6.0
    assert jax.grad(call, 0)(TWO, THREE) == 3.0
    assert jax.grad(call, 1)(TWO, THREE) == 2.0
    assert jax.grad(call, (0, 1))(TWO, THREE) == (3.0, 2.0)
    assert len(traces) == 1
    assert seen == [{"a": True, "b": False}, {"a": False, "b": True}, {"a": True, "b": True}]


@pytest.mark.parametrize("jit", [jax.jit, eqx_filter.filter_jit])
def test_jitted_traces_are_shared_by_gradients(jit):
    traces = []

    def square(x):
        traces.append(None)
        return x**2

    fn = filter_custom_vjp(square)
    fn.def_fwd(lambda perturbed, x: (x**2, x))
    fn.def_bwd(lambda residuals, grad_out, perturbed, x: 2 * residuals * grad_out)
    jitted = jit(fn)
    for _ in range(3):
        assert jax.grad(jitted)(THREE) == 6.0
    assert len(traces) == 1


def test_none_is_a_zero_gradient():
    fn = filter_custom_vjp(lambda pair: pair[0] * pair[1])
    fn.def_fwd(lambda perturbed, pair: (pair[0] * pair[1], None))
    fn.def_bwd(lambda residuals, grad_out, perturbed, pair: (None, grad_out))
    assert jax.grad(lambda a, b: fn((a, b)), argnums=(0, 1))(THREE, TWO) == (0.0, 1.0)


def test_gradients_of_models_have_their_structure():
    fn = filter_custom_vjp(lambda model, x: model(x))
    fn.def_fwd(lambda perturbed, model, x: (model(x), None))

    @fn.def_bwd
    def bwd(residuals, grad_out, perturbed, model, x):
        assert perturbed == Scale(True, False)
        return eqx_core.tree_at(lambda m: m.by, eqx_filter.filter(model, eqx_core.is_inexact_array), 10 * grad_out * x)

    grad = eqx_filter.filter_grad(lambda model: fn(model, THREE))(Scale(TWO, "scale"))
    assert grad == Scale(jnp.array(30.0), None)


def test_it_takes_its_name_from_the_function():
    def square(x):
        """Square it."""

    fn = filter_custom_vjp(square)
    assert (fn.__name__, fn.__doc__, fn.__wrapped__) == ("square", "Square it.", square)


def test_the_rules_must_be_set_first():
    fn = filter_custom_vjp(lambda x: x)
    with pytest.raises(
        RuntimeError, match=r"`def_fwd` or `def_bwd` not yet called for `filter_custom_vjp\(fn=<lambda>"
    ):
        fn(ONE)
    fn.def_fwd(lambda perturbed, x: (x, None))
    with pytest.raises(RuntimeError, match="not yet called"):
        fn(ONE)


def test_other_arguments_must_not_be_differentiated():
    fn, _ = recording()
    for call in (lambda y: fn(THREE, y), lambda y: fn(THREE, k={"y": y}["y"]), lambda y: jax.jit(fn)(THREE, y)):
        with pytest.raises(RuntimeError, match=r"Unexpected tangent. `\*args` and `\*\*kwargs` to `filter_custom_vjp`"):
            jax.grad(call)(TWO)
    assert jax.grad(lambda y: fn(THREE, jax.lax.stop_gradient(y)))(TWO) == 0.0


def test_what_the_function_holds_must_not_be_differentiated():
    def call(by):
        fn, _ = recording(Scale(by, "scale"))
        return fn(THREE)

    with pytest.raises(RuntimeError, match=r"Unexpected tangent. The function that was given to `filter_custom_vjp`"):
        jax.grad(call)(TWO)
    assert jax.vmap(call)(jnp.arange(2.0)).tolist() == [0.0, 3.0]


def test_forward_mode_is_refused_as_in_jax():
    fn, _ = recording()
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(fn, (THREE,), (ONE,))


@pytest.mark.parametrize("result", [None, (ONE,), {"a": ONE}, {"a": [ONE], "b": ONE}])
def test_the_gradient_must_have_the_structure_of_the_argument(result):
    fn, _ = product()
    fn.def_bwd(lambda *args: result)
    with pytest.raises(
        RuntimeError, match=r"`filter_custom_vjp.def_bwd\(rule=...\)` must return gradients of the same"
    ):
        jax.grad(lambda a: fn({"a": a, "b": TWO}))(THREE)


def test_the_old_api_warns_and_passes_zeros():
    seen = []
    fn = filter_custom_vjp(lambda x, *args, **kwargs: (x**2, x, "s", jnp.array(1)))

    def fwd(*args, **kwargs):
        seen.append((args, kwargs))
        return fn.fn(*args, **kwargs), "residuals"

    def bwd(*args, **kwargs):
        seen.append((args, kwargs))
        return 20 * args[2] * args[1][0]

    with pytest.warns(
        UserWarning, match="`filter_custom_vjp.defvjp` is deprecated in favour of `def_fwd` and `def_bwd`"
    ):
        fn.defvjp(fwd, bwd)
    assert jax.grad(lambda x: fn(x, "a", k="k")[0])(THREE) == 60.0
    kwargs = {"k": "k"}
    assert seen == [((3.0, "a"), kwargs), (("residuals", (1.0, 0.0, None, None), 3.0, "a"), kwargs)]


def test_no_tracer_leaks():
    fn, seen = product()
    with jax.checking_leaks():
        assert jax.jit(jax.grad(lambda a, b: fn({"a": a, "b": b})))(TWO, THREE) == 3.0
    seen.clear()


def test_it_agrees_with_equinox():
    equinox = pytest.importorskip("equinox")
    results = []
    for make in (filter_custom_vjp, equinox.filter_custom_vjp):
        seen = []
        fn = make(lambda x, by: (x["x"] * by, x["y"], "s"))
        fn.def_fwd(lambda perturbed, x, by, seen=seen: (seen.append(perturbed), ((x["x"] * by, x["y"], "s"), by))[1])
        fn.def_bwd(
            lambda r, g, p, x, by, seen=seen: (seen.append((r, g, p, x, by)), {"x": g[0], "y": g[1], "s": None})[1]
        )
        grad = jax.grad(lambda x, fn=fn: fn({"x": x, "y": x, "s": "s"}, TWO)[0])(THREE)
        results.append((grad, seen))
    assert results[0] == results[1]


@pytest.mark.parametrize("value", [False, 3, 2.5, np.int8(3), np.float16(1.5)], ids=lambda value: type(value).__name__)
def test_residuals_that_jax_knows_are_arrays_still(value):
    """JAX passes a constant of the forward pass on as a Python number."""
    seen = []

    @eqx_filter.filter_custom_vjp
    def double(x):
        return 2 * x

    @double.def_fwd
    def double_fwd(perturbed, x):
        return 2 * x, jnp.asarray(value)

    @double.def_bwd
    def double_bwd(residual, grad_out, perturbed, x):
        seen.append((eqx_filter.is_array(residual), residual.dtype))
        return 2 * grad_out

    for differentiate in (jax.grad(jax.jit(double)), jax.jit(jax.grad(double))):
        assert differentiate(1.0) == 2
    assert set(seen) == {(True, jnp.asarray(value).dtype)}


def test_a_cotangent_may_be_a_python_number():
    @filter_custom_vjp
    def square(x):
        return x**2

    square.def_fwd(lambda perturbed, x: (x**2, x))
    square.def_bwd(lambda residuals, grad_out, perturbed, x: 2 * residuals * grad_out)
    _, pullback = jax.vjp(square, jnp.array(3.0))
    assert pullback(1.0) == (6.0,)
