import copy
import functools
import inspect
import operator
import pickle
import threading
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given

import eqx_core
from eqx_filter import filter_jit


class Linear(eqx_core.Module):
    weight: jax.Array
    activation: Any
    size: int = eqx_core.field(static=True)

    def __call__(self, x):
        return self.activation(self.weight * x)

    def scaled(self, x, by=2.0):
        return self.weight * x * by

    @filter_jit
    def decorated(self, x):
        return self, self(x)

    @classmethod
    @filter_jit
    def of_class(cls, x):
        return cls.__name__, x + 1

    @staticmethod
    @filter_jit
    def of_nothing(x):
        return x + 1


def linear(weight=2.0, size=1):
    return Linear(jnp.asarray(weight), jax.nn.relu, size)


def same(a, b):
    """Of two trees, whether they have the same structure, and leaves of the same types and values."""
    (xs, s), (ys, t) = jtu.tree_flatten(a), jtu.tree_flatten(b)
    return s == t and all(_same_leaf(x, y) for x, y in zip(xs, ys, strict=True))


def _same_leaf(x, y):
    if eqx_core.is_array(x):
        return isinstance(y, jax.Array) and x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True)
    return type(x) is type(y) and (x is y or x == y or x != x)


LEAVES = st.one_of(
    st.integers(-5, 5),
    st.sampled_from([0.0, -0.0, 1.0, float("nan"), True, None, "a", len, 1j, jax.nn.relu]),
    st.sampled_from([np.float32(2), np.arange(3, dtype=np.int8), jnp.arange(2), jnp.float32(1), jnp.bfloat16(1)]),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
        | st.builds(Linear, inner, inner, st.integers(0, 1))
    ),
    max_leaves=5,
)


@filter_jit
def swap(a, *, b):
    return {"b": a, "a": [b, b]}


@given(TREES, TREES)
def test_the_jitted_function_is_the_function(a, b):
    assert same({"b": a, "a": [b, b]}, swap(a, b=b))
    assert same({"b": a, "a": [b, b]}, swap(b=b, a=a))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8, jnp.complex64, jnp.bool_])
def test_arrays_keep_their_dtype(dtype):
    x = jnp.ones(3, dtype)
    assert filter_jit(lambda x: [x, np.asarray(x.shape)])(x)[0].dtype == dtype


def test_double_precision_follows_the_switch():
    f = filter_jit(lambda x: (x * 2, "a"))
    assert f(np.ones(2))[0].dtype == jnp.float32
    with jax.enable_x64(True):
        assert f(np.ones(2))[0].dtype == jnp.float64
    assert f(np.ones(2))[0].dtype == jnp.float32


def test_keys_numpy_arrays_and_structs_are_taken():
    key, struct = jr.key(0), jax.ShapeDtypeStruct((2,), jnp.int32)
    out = filter_jit(lambda *xs: xs)(key, np.arange(2), np.float32(1), struct)
    assert jr.key_data(out[0]).tolist() == jr.key_data(key).tolist()
    assert [type(x) for x in out[1:3]] == [type(jnp.ones(1))] * 2
    assert out[3] is struct


def test_nothing_in_and_nothing_out():
    assert filter_jit(lambda: None)() is None
    assert filter_jit(lambda x: ())({}) == ()
    assert filter_jit(lambda x: x)(3) == 3


def test_what_is_returned_depends_on_the_shape():
    f = filter_jit(lambda x: (x, x.ndim) if x.ndim else {"scalar": x})
    for _ in range(2):
        assert f(jnp.ones(1))[1] == 1
        assert f(jnp.ones((1, 1)))[1] == 2
        assert list(f(jnp.ones(()))) == ["scalar"]


CALLABLES = {
    "function": lambda x: x + 1,
    "module": linear(),
    "bound method": linear().scaled,
    "partial": functools.partial(jnp.add, 1.0),
    "module partial": eqx_core.Partial(jnp.add, jnp.array(1.0)),
    "builtin": abs,
    "jitted": jax.jit(lambda x: x + 1),
    "ufunc": jnp.sin,
    "custom": jax.nn.relu,
    "filter_jit": filter_jit(lambda x: x + 1),
}


@pytest.mark.parametrize("fun", CALLABLES.values(), ids=CALLABLES.keys())
def test_every_callable_can_be_jitted(fun):
    x = jnp.arange(3.0)
    for _ in range(2):
        np.testing.assert_allclose(filter_jit(fun)(x), fun(x), rtol=1e-6)


def test_a_callable_without_a_signature_can_be_jitted():
    with pytest.raises(ValueError, match="signature"):
        inspect.signature(dict)
    out = filter_jit(dict)([("a", 1)], b=jnp.ones(2))
    assert out["a"] == 1
    assert out["b"].tolist() == [1, 1]
    assert filter_jit(dict).lower(b=jnp.ones(2)).compile()(b=jnp.ones(2))["b"].tolist() == [1, 1]


def test_methods_can_be_decorated():
    model = linear(3.0)
    same_model, out = model.decorated(jnp.array(2.0))
    assert out == 6
    assert same(same_model, model)
    assert Linear.decorated(model, x=2.0)[1] == 6
    assert isinstance(model.decorated, eqx_core.Partial)
    for of in (Linear, model):
        assert of.of_class(jnp.array(1.0))[0] == "Linear"
        assert of.of_nothing(1) == 2

    class Plain:
        @filter_jit
        def method(self, x):
            return x + 1

    assert Plain().method(jnp.array(1.0)) == 2

    class Called(eqx_core.Module):
        @filter_jit
        def __call__(self, x):
            return x + 1

    assert Called()(jnp.array(1.0)) == 2
    assert filter_jit(Called())(jnp.array(1.0)) == 2


def test_without_a_function_it_is_a_decorator():
    @filter_jit(donate="all", inline=True)
    def f(x):
        return x * 2

    assert f(jnp.array(2.0)) == 4
    assert f.donate == "all"
    assert f.options == (("inline", True),)


def test_it_nests_in_itself_and_in_jax():
    inner = filter_jit(lambda model, x, n: (model(x) * n, "text"))

    @filter_jit
    def outer(model, x):
        out, text = inner(model, x, n=3)
        return out.sum() if text == "text" else out

    model, x = linear(), jnp.arange(1.0, 4.0)
    assert outer(model, x) == 36
    np.testing.assert_array_equal(jax.grad(lambda x: outer(model, x))(x), [6, 6, 6])
    np.testing.assert_array_equal(filter_jit(jax.grad(lambda w: outer(linear(w), x)))(2.0), 18)
    np.testing.assert_array_equal(jax.vmap(lambda x: outer(model, x))(x), [6, 12, 18])
    np.testing.assert_array_equal(filter_jit(jax.vmap(lambda x: inner(model, x, 2)[0]))(x), [4, 8, 12])
    assert jax.jit(lambda x: outer(model, x))(x) == 36
    assert jax.hessian(lambda x: outer(model, x) ** 2)(jnp.array(1.0)) == 72
    np.testing.assert_array_equal(jax.lax.scan(lambda c, x: (c + outer(model, x), None), 0.0, x)[0], 36)
    assert filter_jit(filter_jit(outer))(model, x) == 36


def test_it_can_be_switched_off():
    model, seen = linear(), []
    f = filter_jit(lambda m, x: (seen.append(x), m, m(x), "text")[1:])
    with jax.disable_jit():
        out = f(model, jnp.array(2.0))
    assert isinstance(seen[0], jax.Array)
    assert not isinstance(seen[0], jax.core.Tracer)
    assert same(out, (model, jnp.array(4.0), "text"))


def test_the_call_returns_before_the_computation_is_done():
    returned = threading.Event()

    def waits(x):
        return np.float32(returned.wait(5))

    @filter_jit
    def step(model, x):
        return model, jax.pure_callback(waits, jax.ShapeDtypeStruct((), jnp.float32), x)

    # On CPUs JAX runs a callback at once unless its input is still to come, which on a busy machine
    # takes an input that is long in coming.
    slow = jax.jit(lambda x, n: jax.lax.fori_loop(0, n, lambda _, x: x @ x / 400, x)[0, 0])
    matrix = jnp.ones((400, 400))
    returned.set()
    jax.block_until_ready(step(linear(), slow(matrix, 1)))
    for length in (60, 300, 1500):
        returned.clear()
        model, saw_the_return = step(linear(), slow(matrix, length))
        returned.set()
        if saw_the_return == 1:
            break
    assert saw_the_return == 1
    assert model.size == 1


@pytest.mark.parametrize("options", [{}, {"keep_unused": True}, {"inline": True}, {"compiler_options": {}}])
def test_options_reach_jax(options):
    jitted = filter_jit(lambda x, y: x, **options)
    assert jitted(jnp.array(1.0), jnp.array(2.0)) == 1
    assert ("%arg1" in jitted.lower(jnp.array(1.0), jnp.array(2.0)).as_text()) is ("keep_unused" in options)


@pytest.mark.parametrize("inline", [False, True])
def test_functions_are_inlined_as_by_jax(inline):
    def f(x):
        return jnp.sin(x)

    ours, theirs = (jax.make_jaxpr(jit(f, inline=inline))(1.0) for jit in (filter_jit, jax.jit))
    assert str(ours) == str(theirs)


def test_a_device_can_be_given():
    device = jax.devices()[-1]
    with pytest.warns(DeprecationWarning, match="device"):
        jitted = filter_jit(lambda x: x + 1, device=device)
    assert jitted(jnp.array(1.0)).devices() == {device}
    assert jitted(jnp.ones(2)).devices() == {device}


def test_options_that_are_not_for_the_user_are_refused():
    for option in ("static_argnums", "static_argnames", "donate_argnums", "donate_argnames"):
        with pytest.raises(
            ValueError, match=rf"`filter_jit\({option}=...\)` must not be given.*`jitkwargs` cannot contain"
        ):
            filter_jit(lambda x: x, **{option: 0})
    for option in ("default", "fn", "args", "kwargs", "out"):
        with pytest.raises(ValueError, match=rf"`filter_jit\({option}=...\)` must not be given.*0\.10\.0"):
            filter_jit(lambda x: x, **{option: 0})
    with pytest.raises(ValueError, match=r"`filter_jit\(donate=...\)` must be one of 'all'.*got 'some'"):
        filter_jit(lambda x: x, donate="some")
    with pytest.raises(TypeError, match="unexpected keyword argument 'foo'"):
        filter_jit(lambda x: x, foo=1)
    with pytest.raises(ValueError, match="must not be given"):
        filter_jit(static_argnums=0)(lambda x: x)


def test_wrong_arguments_are_pythons_own_error():
    f = filter_jit(lambda x, *, y=1: x)
    for _ in range(2):
        with pytest.raises(TypeError, match="missing a required argument: 'x'"):
            f()
        with pytest.raises(TypeError, match="too many positional arguments"):
            f(1, 2)
        with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
            f(1, z=2)
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        linear().decorated()


def test_errors_of_the_function_pass_through():
    class MyError(Exception):
        pass

    def f(x):
        raise MyError("text")

    with pytest.raises(MyError, match="text"):
        filter_jit(f)(jnp.ones(2))


def test_an_unhashable_leaf_is_named():
    f = filter_jit(lambda x, *rest, y=None: x)
    with pytest.raises(
        ValueError, match=r"Non-hashable static arguments.*\{1\} of type `set` at `x\['a'\]`.*unhashable"
    ):
        f({"a": {1}})
    with pytest.raises(ValueError, match=r"at `args\[1\]\[0\]`"):
        f(1, [{1}])
    with pytest.raises(ValueError, match=r"at `y`"):
        f(1, y={1})
    with pytest.raises(ValueError, match=r"at `fun.activation`"):
        filter_jit(Linear(jnp.ones(1), {1}, 1))(1)


def test_the_name_in_the_program_is_that_of_the_function():
    def some_name(x):
        return x + 1

    def text(fun):
        return filter_jit(fun).lower(jnp.ones(2)).as_text()

    for fun in (some_name, functools.partial(some_name), jax.jit(some_name), filter_jit(some_name)):
        assert "@jit_some_name" in text(fun)
    assert "@jit_Linear" in text(linear())
    assert "@jit_scaled" in text(linear().scaled)


def test_it_looks_like_what_it_wraps():
    @filter_jit
    def f(x: int) -> int:
        """Text."""
        return x

    assert (f.__name__, f.__doc__, f.__module__, f.__annotations__) == (
        "f",
        "Text.",
        __name__,
        {"x": int, "return": int},
    )
    assert f.__qualname__.endswith("<locals>.f")
    assert list(inspect.signature(f).parameters) == ["x"]
    assert f.__wrapped__(3) == 3
    assert repr(filter_jit(len)) == "Jitted(fun=<built-in function len>, donate='none', options=())"


def test_it_is_a_tree_of_the_leaves_of_what_it_wraps():
    model = linear()
    jitted = filter_jit(model)
    assert [leaf is other for leaf, other in zip(jtu.tree_leaves(jitted), jtu.tree_leaves(model), strict=True)]
    jitted(jnp.array(1.0))
    assert jtu.tree_structure(jitted) == jtu.tree_structure(filter_jit(linear()))
    assert jtu.tree_map(lambda x: x * 2 if eqx_core.is_array(x) else x, jitted)(jnp.array(1.0)) == 4
    assert filter_jit(lambda f, x: f(x))(jitted, jnp.array(1.0)) == 2
    assert jax.grad(lambda w: filter_jit(linear(w))(jnp.array(3.0)))(2.0) == 3


def test_it_can_be_copied_and_pickled():
    jitted = filter_jit(operator.neg, donate="warn")
    jitted(jnp.ones(1))
    for twin in (copy.copy(jitted), copy.deepcopy(jitted), pickle.loads(pickle.dumps(jitted))):
        assert twin(jnp.array(1.0)) == -1
        assert twin == jitted
        assert jtu.tree_structure(twin) == jtu.tree_structure(jitted)


def test_arguments_may_have_any_name():
    assert filter_jit(lambda self, fun: self + fun)(self=1, fun=2) == 3
    assert filter_jit(lambda **kw: kw)(self=1, args=2, kwargs=3) == {"self": 1, "args": 2, "kwargs": 3}


def test_a_callback_of_the_host_and_a_bound_method_in_scan():
    # The bound method holds an array; closed over by a jitted function it can go wherever a function can.
    step = linear(2.0).scaled
    carry, _ = jax.lax.scan(lambda c, _: (filter_jit(step)(c), None), jnp.array(1.0), None, length=3)
    assert carry == 64
    layers = [linear(2.0), linear(3.0)]

    def switch(i, x):
        return jax.lax.switch(i, [filter_jit(layer).__call__ for layer in layers], x)

    assert [jax.grad(switch, 1)(i, 1.0) for i in range(2)] == [2, 3]


def test_of_a_leaf_that_hides_arrays_the_error_says_what_the_doctor_would():
    class Hiding:
        __hash__ = None

        def __init__(self):
            self.weight = jnp.ones(3)

    match = r"Non-hashable static arguments .* at `x\['layer'\]`.*`eqx_core\.tree_doctor` says of it: .* hides .*weight"
    with pytest.raises(ValueError, match=match):
        filter_jit(lambda x: x)({"layer": Hiding()})
