import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_custom_jvp, filter_jvp

ONE, TWO, THREE = jnp.array(1.0), jnp.array(2.0), jnp.array(3.0)


class Scale(eqx_core.Module):
    by: jax.Array
    name: str

    def __call__(self, x):
        return self.by * x


def recording(fn=lambda x, other=None, **kwargs: x**2):
    """Return a function whose derivative is ten times the true one, and what its rule was called with."""
    seen = []
    wrapped = filter_custom_jvp(fn)

    @wrapped.def_jvp
    def rule(primals, tangents, **kwargs):
        seen.append((primals, tangents, kwargs))
        return fn(*primals, **kwargs), None if tangents[0] is None else 20 * primals[0] * tangents[0]

    assert rule is None
    return wrapped, seen


def test_the_rule_is_used_in_forward_and_reverse_mode():
    fn, _ = recording()
    assert fn(THREE) == 9.0
    assert jax.jvp(fn, (THREE,), (ONE,)) == (9.0, 60.0)
    assert jax.grad(fn)(THREE) == 60.0
    assert eqx_filter.filter_grad(fn)(THREE) == 60.0
    assert filter_jvp(fn, (THREE,), (ONE,)) == (9.0, 60.0)
    assert jax.jacfwd(fn)(THREE) == 60.0


@pytest.mark.parametrize("jit", [jax.jit, eqx_filter.filter_jit])
def test_the_rule_is_used_under_jit_vmap_and_scan(jit):
    fn, _ = recording()
    assert jit(jax.grad(fn))(THREE) == 60.0
    assert jax.grad(jit(fn))(THREE) == 60.0
    assert jax.vmap(jax.grad(fn))(jnp.arange(3.0)).tolist() == [0.0, 20.0, 40.0]
    assert jax.grad(lambda x: jnp.sum(jax.vmap(fn)(x)))(jnp.arange(3.0)).tolist() == [0.0, 20.0, 40.0]
    assert jax.grad(lambda x: jax.lax.scan(lambda c, _: (fn(c), None), x, length=1)[0])(THREE) == 60.0
    assert jax.grad(jax.checkpoint(fn))(THREE) == 60.0
    # The rule is differentiated in turn.
    assert jax.grad(jax.grad(fn))(THREE) == 20.0


def test_the_rule_sees_tuples_with_none_for_what_is_not_differentiated():
    fn, seen = recording()
    other = {"array": TWO, "n": jnp.array(1), "f": 2.0, "s": "s", "none": None, "model": Scale(TWO, "scale")}
    assert jax.grad(lambda x: fn(x, other, k="k", a=TWO))(THREE) == 60.0
    ((primals, tangents, kwargs),) = seen
    assert type(primals) is tuple
    assert type(tangents) is tuple
    assert primals == (3.0, other)
    assert tangents[1] == {"array": None, "n": None, "f": None, "s": None, "none": None, "model": Scale(None, None)}
    assert kwargs == {"k": "k", "a": 2.0}


def test_only_perturbed_leaves_have_a_tangent():
    seen = []
    fn = filter_custom_jvp(lambda tree: tree["a"] * tree["b"])

    @fn.def_jvp
    def rule(primals, tangents):
        seen.append({name: tangent is not None for name, tangent in tangents[0].items()})
        return primals[0]["a"] * primals[0]["b"], ONE

    jax.jvp(lambda a: fn({"a": a, "b": TWO}), (THREE,), (ONE,))
    jax.jvp(lambda b: jax.jit(fn)({"a": THREE, "b": b}), (TWO,), (ONE,))
    jax.jvp(lambda a, b: fn({"a": a, "b": b}), (TWO, TWO), (ONE, ONE))
    assert seen == [{"a": True, "b": False}, {"a": False, "b": True}, {"a": True, "b": True}]


def test_none_is_a_symbolic_zero_on_the_way_out():
    fn = filter_custom_jvp(lambda x: (x, {"y": x, "n": jnp.argmax(x)}, None))
    fn.def_jvp(lambda primals, tangents: (fn.fn(*primals), (tangents[0], {"y": None, "n": None}, None)))
    x = jnp.ones(2)
    _, tangent = filter_jvp(fn, (x,), (x,))
    assert tangent[0].tolist() == [1.0, 1.0]
    assert tangent[1:] == ({"y": None, "n": None}, None)
    assert filter_jvp(jax.jit(fn), (x,), (x,))[1][1] == {"y": None, "n": None}
    assert jax.grad(lambda x: jnp.sum(fn(x)[1]["y"]))(x).tolist() == [0.0, 0.0]


def test_an_unperturbed_call_does_not_run_the_rule():
    fn, seen = recording()
    assert jax.jit(fn)(THREE) == 9.0
    assert jax.grad(lambda x: x * fn(TWO))(THREE) == 4.0
    assert seen == []


def test_python_scalars_are_static_unless_differentiated():
    fn, seen = recording()
    assert fn(3.0) == 9.0
    assert jax.grad(fn)(3.0) == 60.0
    assert jax.jvp(fn, (3.0,), (1.0,)) == (9.0, 60.0)
    assert all(isinstance(primals[0], jax.Array) for primals, _, _ in seen)


def test_modules_are_differentiated_leaf_by_leaf():
    fn = filter_custom_jvp(lambda model, x: model(x))

    @fn.def_jvp
    def rule(primals, tangents):
        (model, x), (by, _) = primals, tangents
        assert by.name is None
        return model(x), 10 * by.by * x

    grad = eqx_filter.filter_grad(lambda model: fn(model, THREE))(Scale(TWO, "scale"))
    assert grad == Scale(jnp.array(30.0), None)


def test_arrays_held_by_the_function_pass_through_other_transformations():
    fn = filter_custom_jvp(Scale(TWO, "scale"))
    fn.def_jvp(lambda primals, tangents: (2 * primals[0], 7 * tangents[0]))
    assert jax.grad(jax.jit(fn))(THREE) == 7.0
    batched = jax.vmap(lambda by, x: filter_custom_jvp(Scale(by, "scale")).fn(x))(jnp.arange(2.0), jnp.ones(2))
    assert batched.tolist() == [0.0, 1.0]


def test_it_takes_its_name_from_the_function():
    def square(x):
        """Square it."""

    fn = filter_custom_jvp(square)
    assert fn.__name__ == "square"
    assert fn.__doc__ == "Square it."
    assert fn.__wrapped__ is square
    assert not isinstance(fn, eqx_core.Module)


def test_keyword_arguments_must_not_be_differentiated():
    fn, _ = recording()
    with pytest.raises(
        ValueError, match=r"Received keyword tangent: `filter_custom_jvp\(fn=<lambda>\)`.*`kwargs\['k'\]"
    ):
        jax.grad(lambda k: fn(THREE, k={"k": k}["k"]))(TWO)
    assert jax.grad(lambda k: fn(THREE, k=jax.lax.stop_gradient(k)))(TWO) == 0.0


def test_what_the_function_holds_must_not_be_differentiated():
    def call(by):
        fn = filter_custom_jvp(Scale(by, "scale"))
        fn.def_jvp(lambda primals, tangents: (2 * primals[0], 7 * tangents[0]))
        return fn(THREE)

    with pytest.raises(ValueError, match=r"Received hidden tangent: `filter_custom_jvp\(fn=Scale\)`.*`fn\.by`"):
        jax.grad(call)(TWO)


def test_a_rule_must_be_set_first():
    with pytest.raises(AttributeError, match=r"No JVP defined for `filter_custom_jvp\(fn=<lambda>\)`"):
        filter_custom_jvp(lambda x: x)(ONE)


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (lambda x, t: x, r"`filter_custom_jvp.def_jvp\(rule=...\)` must return a pair `\(out, tangent_out\)`; got a"),
        (lambda x, t: ((x, [x]), (t, None)), r"equal container \(PyTree\) structures"),
        (lambda x, t: ((x, [x]), None), r"equal container \(PyTree\) structures"),
    ],
)
def test_a_rule_must_return_two_trees_of_one_structure(result, match):
    fn = filter_custom_jvp(lambda x: (x, [x]))
    fn.def_jvp(lambda primals, tangents: result(*primals, *tangents))
    with pytest.raises(TypeError, match=match):
        jax.jvp(fn, (ONE,), (ONE,))


def test_outputs_must_be_arrays_as_in_jax():
    fn = filter_custom_jvp(lambda x: "s")
    fn.def_jvp(lambda primals, tangents: ("s", None))
    with pytest.raises(TypeError, match="not a valid JAX type"):
        fn(ONE)


def test_the_old_api_warns_and_passes_zeros():
    seen = []
    fn = filter_custom_jvp(lambda x, other: x**2)

    def rule(primals, tangents):
        seen.append(tangents)
        return primals[0] ** 2, 20 * primals[0] * tangents[0]

    with pytest.warns(UserWarning, match="`filter_custom_jvp.defjvp` is deprecated in favour of `def_jvp`"):
        fn.defjvp(rule)
    assert jax.grad(lambda x: fn(x, {"y": TWO, "n": jnp.array(1), "f": 2.0, "s": "s"}))(THREE) == 60.0
    ((_, other),) = seen
    assert other == {"y": 0.0, "n": None, "f": None, "s": None}
    with pytest.raises(NotImplementedError, match=r"`filter_custom_jvp.defjvps` is not implemented"):
        fn.defjvps(rule)


def test_no_tracer_leaks():
    fn = filter_custom_jvp(lambda x, other, *, k: x**2)
    fn.def_jvp(lambda primals, tangents, *, k: (primals[0] ** 2, 20 * primals[0] * tangents[0]))
    with jax.checking_leaks():
        assert jax.jit(jax.grad(lambda x, y: fn(x, {"y": y, "s": "s"}, k=y)))(THREE, TWO) == 60.0


def test_it_agrees_with_equinox():
    equinox = pytest.importorskip("equinox")
    results = []
    for make in (filter_custom_jvp, equinox.filter_custom_jvp):
        seen = []
        fn = make(lambda x, y: (x * y["a"], y["a"]))

        def rule(primals, tangents, seen=seen):
            seen.append(tangents)
            return (primals[0] * primals[1]["a"], primals[1]["a"]), (tangents[0], None)

        fn.def_jvp(rule)
        out = jax.jvp(lambda x, fn=fn: fn(x, {"a": TWO, "s": "s"}), (THREE,), (ONE,))
        results.append((out, seen))
    np.testing.assert_equal(*results)
