"""`jitf` traces single leaves."""

import pickle

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
from eqx_filter import EquinoxRuntimeError, error_if, filter_grad, filter_jit, filter_vmap, is_array, jitf


def traced(fun, *args, **kwargs):
    """Return of each leaf of the argument `x` whether it is traced when `fun` is called."""
    return [isinstance(leaf, jax.core.Tracer) for leaf in fun(*args, **kwargs)]


def _kinds(seen):
    def fun(x, *rest, **named):
        seen.append([isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((x, rest, named))])
        return x

    return fun


def test_a_tree_of_bools_says_which_leaves_are_traced():
    seen = []
    fun = jitf(_kinds(seen), filter_tree=([True, False, False], True))
    out = fun([1, 2, "text"], jnp.ones(2))
    assert seen == [[True, False, False, True]]
    assert isinstance(out[0], jax.Array)
    assert out[1:] == [2, "text"]
    fun([5, 2, "text"], jnp.zeros(2))
    assert len(seen) == 1
    fun([5, 3, "text"], jnp.zeros(2))
    assert len(seen) == 2


def test_a_single_tree_is_for_the_single_argument_that_is_not_static():
    seen = []
    fun = jitf(_kinds(seen), filter_tree=[True, False], static_argnums=1)
    fun([1, 2], (3, 4.0))
    assert seen == [[True, False, False, False]]


def test_a_function_says_which_leaves_are_traced():
    seen = []
    fun = jitf(_kinds(seen), filter_fn=lambda leaf: isinstance(leaf, float), static_argnums=(-1,))
    fun([1, 2.0], 3.0, 4.0)
    assert seen == [[False, True, True, False]]


def test_static_names_are_static_and_other_names_are_filtered():
    seen = []
    fun = jitf(_kinds(seen), filter_fn=lambda leaf: not isinstance(leaf, str), static_argnames="b")
    fun([1], a=2.0, b=3.0)
    assert seen == [[True, True, False]]

    def named(x, n):
        return x * n if isinstance(n, int) else "traced"

    assert float(jitf(named, filter_fn=lambda _: True, static_argnames=("n",))(2.0, 3)) == 6.0
    assert float(jitf(named, filter_fn=lambda _: True, static_argnums=1)(2.0, n=3)) == 6.0
    assert jitf(named, filter_fn=lambda _: True)(2.0, 3) == "traced"


def test_a_static_argument_may_be_left_to_its_default():
    assert float(jitf(lambda x, n=2: x * n, filter_fn=lambda _: True, static_argnums=1)(3.0)) == 6.0


def test_traced_by_arrays_it_is_filter_jit_and_shares_its_programs():
    seen = []
    fun = _kinds(seen)
    model = {"w": jnp.ones(2), "n": 3, "s": "text"}
    out = jitf(fun, filter_fn=is_array)(model)
    assert eqx_core.tree_equal(out, filter_jit(fun)(model))
    assert len(seen) == 1


def test_it_is_transparent_to_grad_vmap_and_jit():
    fun = jitf(lambda x, by: by["f"](x) * by["n"], filter_tree=(True, {"f": False, "n": True}))
    by = {"f": jnp.sin, "n": 3.0}
    np.testing.assert_allclose(fun(2.0, by), 3 * np.sin(2.0), rtol=1e-6)
    np.testing.assert_allclose(filter_grad(fun)(jnp.array(2.0), by), 3 * np.cos(2.0), rtol=1e-6)
    xs = jnp.arange(3.0)
    np.testing.assert_allclose(filter_vmap(fun, in_axes=(0, None))(xs, by), 3 * np.sin(np.arange(3.0)), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda x: fun(x, by))(2.0), 3 * np.sin(2.0), rtol=1e-6)


def test_it_decorates_a_method_and_takes_a_module_with_arrays():
    class Model(eqx_core.Module):
        w: jax.Array
        name: str

        def __call__(self, x):
            return self.w * x

    model = Model(jnp.array(2.0), "model")
    fun = jitf(model, filter_fn=lambda _: True)
    assert float(fun(3.0)) == 6.0
    assert float(pickle.loads(pickle.dumps(jitf(abs, filter_fn=is_array)))(jnp.array(-3.0))) == 3.0


def test_options_are_those_of_filter_jit():
    x = jnp.ones(4)
    jitf(lambda x: x + 1, filter_fn=is_array, donate="all")(x)
    assert x.is_deleted()
    with pytest.raises(ValueError, match=r"`filter_jit\(donate=\.\.\.\)`"):
        jitf(abs, filter_fn=is_array, donate="some")


def test_a_failed_check_is_the_error_it_is_in_filter_jit():
    fun = jitf(lambda x: error_if(x, x < 0, "must not be negative"), filter_fn=lambda _: True)
    with pytest.raises(EquinoxRuntimeError, match="must not be negative"):
        fun(-1.0)
    with pytest.raises(ZeroDivisionError):
        jitf(lambda x: 1 // 0, filter_fn=lambda _: True)(1.0)


def test_there_must_be_exactly_one_filter():
    for filters, got in (({}, "neither"), ({"filter_fn": is_array, "filter_tree": True}, "both")):
        with pytest.raises(ValueError, match=rf"`jitf\(filter_fn=.*exactly one of the two; got {got}\. Write"):
            jitf(abs, **filters)


def test_a_leaf_that_cannot_be_traced_is_named():
    with pytest.raises(TypeError, match=r"can be traced only if they are arrays or numbers; got 'text' at `x\[1\]`"):
        jitf(lambda x: x, filter_fn=lambda _: True)([1, "text"])


@pytest.mark.parametrize("array", [jnp.ones(2), np.ones(2)])
def test_an_array_that_shall_be_static_is_named(array):
    with pytest.raises(TypeError, match=r"can be static only if they are no arrays; got f.*\[2\]\S* at `x\['w'\]`"):
        jitf(lambda x: x, filter_fn=lambda _: False)({"w": array})


def test_a_tree_is_for_arguments_by_position():
    with pytest.raises(ValueError, match=r"`jitf\(filter_tree=\.\.\.\)` is for arguments by position; got 'b' by name"):
        jitf(lambda x, *, b: x, filter_tree=True)(1, b=2)
    with pytest.raises(ValueError, match=r"`jitf\(filter_tree=\.\.\.\)` must have the structure"):
        jitf(lambda x, b: x, filter_tree=(True,))(1, 2)


def test_wrong_arguments_are_pythons_error():
    with pytest.raises(TypeError, match="missing a required argument"):
        jitf(lambda x, b: x, filter_fn=lambda _: True)(1)
