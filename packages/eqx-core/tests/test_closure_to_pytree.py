"""closure_to_pytree shows JAX what functions close over, and changes nothing else about them."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from eqx_core import Module, is_array
from eqx_core.internal import closure_to_pytree


def affine(scale, shift):
    def f(x: float, times: int = 1, *, plus: float = 0.0) -> float:
        """Scale and shift."""
        return x * scale * times + shift + plus

    return f


def arrays_of(tree):
    return [leaf for leaf in jax.tree.leaves(tree) if is_array(leaf)]


def compiled(traces):
    """Compile calls of a callable PyTree: arrays are traced, everything else is static."""

    def call(fn, *args):
        leaves, treedef = jax.tree.flatten(fn)
        arrays = [leaf if is_array(leaf) else None for leaf in leaves]
        static = tuple(None if is_array(leaf) else leaf for leaf in leaves)
        return run(arrays, static, treedef, args)

    def _run(arrays, static, treedef, args):
        traces.append(None)
        leaves = [a if s is None else s for a, s in zip(arrays, static, strict=True)]
        return treedef.unflatten(leaves)(*args)

    run = jax.jit(_run, static_argnums=(1, 2))
    return call


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10), st.integers(0, 3))
def test_the_node_computes_what_the_function_computes(scale, shift, x, times):
    f = affine(scale, shift)
    node = closure_to_pytree(f)
    assert node(x) == f(x)
    assert node(x, times, plus=2.0) == f(x, times, plus=2.0)


def test_the_leaves_are_the_code_and_what_is_closed_over():
    scale, shift = jnp.array(2.0), jnp.array([3.0])
    leaves = jax.tree.leaves(closure_to_pytree(affine(scale, shift)))
    assert leaves[1] is scale
    assert leaves[2] is shift
    assert repr(leaves[0]) == "<function affine.<locals>.f>"
    assert not is_array(leaves[0])
    assert not callable(leaves[0])


def test_names_defaults_documentation_and_annotations_are_kept():
    f = affine(1.0, 2.0)
    f.note = "attribute"
    rebuilt = closure_to_pytree(f).__wrapped__
    for name in (
        "__name__",
        "__qualname__",
        "__module__",
        "__doc__",
        "__annotations__",
        "__dict__",
    ):
        assert getattr(rebuilt, name) == getattr(f, name)
    assert rebuilt.__defaults__ == (1,)
    assert rebuilt.__kwdefaults__ == {"plus": 0.0}
    assert inspect.signature(closure_to_pytree(f)) == inspect.signature(f)


def test_two_of_one_factory_differ_in_their_arrays_only():
    first = closure_to_pytree(affine(jnp.array(1.0), 3.0))
    second = closure_to_pytree(affine(jnp.array(2.0), 3.0))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    code, other = jax.tree.leaves(first)[0], jax.tree.leaves(second)[0]
    assert code == other
    assert hash(code) == hash(other)
    assert first != second
    assert first == closure_to_pytree(affine(jnp.array(1.0), 3.0))


def test_different_functions_stay_different_even_on_one_line():
    add, sub = (lambda x: x + 1), (lambda x: x - 1)
    first, second = (jax.tree.leaves(closure_to_pytree(f))[0] for f in (add, sub))
    assert first != second
    assert first != add


def test_functions_of_one_code_but_other_globals_or_attributes_stay_different():
    source = "def f(x):\n  return x * scale"
    two, three = {"scale": 2}, {"scale": 3}
    exec(source, two), exec(source, three)
    first, second = (jax.tree.leaves(closure_to_pytree(space["f"]))[0] for space in (two, three))
    assert first != second

    def counted():
        return lambda x: x

    f, g = counted(), counted()
    assert closure_to_pytree(f) == closure_to_pytree(g)
    f.by = 1
    assert closure_to_pytree(f) != closure_to_pytree(g)


def test_default_values_are_leaves():
    def make(rate):
        return lambda x, rate=rate: x * rate

    first, second = (closure_to_pytree(make(jnp.array(rate))) for rate in (2.0, 3.0))
    assert jax.tree.structure(first) == jax.tree.structure(second)
    traces = []
    call = compiled(traces)
    assert call(first, jnp.array(1.0)) == 2.0
    assert call(second, jnp.array(1.0)) == 3.0
    assert len(traces) == 1


def test_functions_within_functions_are_reached():
    def outer(w):
        inner = affine(w, jnp.array(1.0))

        def f(x):
            return sum(fn(x) for fn in [inner, {"a": inner}["a"]])

        return f

    f = outer(jnp.array(2.0))
    node = closure_to_pytree(f)
    assert len(arrays_of(node)) == 2
    assert node(3.0) == f(3.0) == 14.0


def test_functions_in_trees_and_modules_are_reached_and_the_rest_is_kept():
    class Layer(Module):
        fn: object
        w: object

    array = jnp.ones(2)
    tree = closure_to_pytree({"a": [affine(1.0, 2.0), len], "b": Layer(affine(2.0, 0.0), array), "c": jnp.sin})
    assert tree["a"][0](1.0) == 3.0
    assert tree["a"][1] is len
    assert tree["c"] is jnp.sin
    assert tree["b"].fn(1.0) == 2.0
    assert tree["b"].w is array
    assert closure_to_pytree([]) == []
    assert closure_to_pytree(None) is None


def test_converting_twice_is_converting_once():
    node = closure_to_pytree(affine(1.0, 2.0))
    assert closure_to_pytree(node) == node


def test_a_function_may_call_itself():
    def make(base):
        def power(x, n):
            return base if n == 0 else x * power(x, n - 1)

        return power

    node = closure_to_pytree(make(jnp.array(5.0)))
    assert len(arrays_of(node)) == 1
    assert node(2.0, 3) == 40.0
    assert jax.tree.structure(node) == jax.tree.structure(closure_to_pytree(make(jnp.array(6.0))))


def test_functions_may_call_each_other():
    def make(step):
        def even(n):
            return True if n == 0 else table["odd"](n - step)

        def odd(n):
            return False if n == 0 else even(n - step)

        table = {"odd": odd}
        return even, odd

    even, odd = closure_to_pytree(make(1))
    assert even(4)
    assert odd(3)
    assert not even(3)
    assert not odd(4)


def test_an_empty_cell_stays_empty():
    def make(fill):
        def f():
            return later

        if fill:
            later = 1
        return f

    empty = closure_to_pytree(make(fill=False))
    with pytest.raises(NameError, match="later"):
        empty()
    assert jax.tree.structure(empty) == jax.tree.structure(closure_to_pytree(make(fill=False)))
    assert closure_to_pytree(make(fill=True))() == 1


def test_assignments_to_nonlocal_names_stay_within_the_call():
    def make():
        count = 0

        def f():
            nonlocal count
            count += 1
            return count

        return f

    f = make()
    node = closure_to_pytree(f)
    assert node() == 1
    assert node() == 1
    assert f() == 1


def test_transforms_see_the_arrays():
    node = closure_to_pytree(affine(jnp.array(2.0), jnp.array(1.0)))
    leaves, treedef = jax.tree.flatten(node)

    def f(arrays, x):
        return treedef.unflatten([leaves[0], *arrays, *leaves[3:]])(x)

    grads = jax.grad(f)(leaves[1:3], jnp.array(5.0))
    np.testing.assert_array_equal(grads, [5.0, 1.0])
    batched = jax.vmap(f, in_axes=(0, None))([jnp.arange(3.0), jnp.ones(3)], jnp.array(2.0))
    np.testing.assert_array_equal(batched, [1.0, 3.0, 5.0])


@jax.numpy_dtype_promotion("standard")  # Optax mixes floats and integers.
def test_two_optimisers_share_one_compiled_function():
    optax = pytest.importorskip("optax")
    params = {"w": jnp.ones(3), "b": jnp.zeros(())}
    grads = jax.tree.map(lambda x: 0.5 + x, params)
    traces = []
    call = compiled(traces)
    for rate in (1e-1, 1e-2):
        plain = optax.adam(jnp.array(rate))
        optim = closure_to_pytree(optax.adam(jnp.array(rate)))
        state = call(optim.init, params)
        updates, _ = call(optim.update, grads, state, params)
        expected, _ = plain.update(grads, plain.init(params), params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), updates, expected)
    assert len(traces) == 2
    call(closure_to_pytree(optax.sgd(jnp.array(1e-1))).init, params)
    assert len(traces) == 3


def test_arrays_are_those_that_equinox_finds():
    theirs = pytest.importorskip("equinox.internal")
    f = affine(jnp.array(2.0), affine(jnp.array(1.0), jnp.array([4.0])))
    for x, y in zip(arrays_of(closure_to_pytree(f)), arrays_of(theirs.closure_to_pytree(f)), strict=True):
        assert x is y
