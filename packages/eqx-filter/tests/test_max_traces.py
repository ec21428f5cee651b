"""`debug.assert_max_traces`, `debug.get_num_traces`: counting, and naming what made another trace."""

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

from eqx_filter import filter_grad, filter_jit, filter_vmap
from eqx_filter.debug import assert_max_traces, get_num_traces


def twice(x, y):
    return x * 2


@pytest.mark.parametrize("compile_it", [jax.jit, filter_jit], ids=["jit", "filter_jit"])
def test_it_counts_traces_and_refuses_one_too_many(compile_it):
    fun = compile_it(assert_max_traces(twice, max_traces=1))
    for _ in range(3):
        assert fun(jnp.ones(2), jnp.ones(())).tolist() == [2, 2]
    assert get_num_traces(fun) == 1
    with pytest.raises(
        RuntimeError, match=r"can only be traced 1 times; got trace number 2. The argument 'x' is resp"
    ) as e:
        fun(jnp.ones(3), jnp.ones(()))
    assert "float32[3]\nand has been\nfloat32[2]" in str(e.value)


def test_static_arguments_and_weak_types_are_named_too():
    fun = filter_jit(assert_max_traces(twice, max_traces=1))
    fun(jnp.ones(2), "a")
    with pytest.raises(RuntimeError, match=r"'y' is responsible: it is\n'b'\nand has been\n'a'"):
        fun(jnp.ones(2), "b")
    fun = jax.jit(assert_max_traces(twice, max_traces=1))
    fun(1.0, 0)
    with pytest.raises(RuntimeError, match=r"'x' is responsible: it is\nfloat32\[\]\nand has been\nweak float32\[\]"):
        fun(jnp.ones(()), 0)


def test_without_a_limit_it_only_counts():
    fun = assert_max_traces(twice, max_traces=None)
    assert get_num_traces(fun) == 0
    assert (fun(1, 2), fun(1, 2)) == (2, 2)
    assert get_num_traces(fun) == 2


def test_nothing_but_the_count_may_have_changed():
    fun = assert_max_traces(twice, max_traces=1)
    fun(1, 2)
    with pytest.raises(RuntimeError, match="No argument differs"):
        fun(1, 2)


def test_the_count_is_shared_by_copies_and_seen_through_transformations():
    fun = assert_max_traces(lambda x: x**2, max_traces=1)
    compiled = filter_jit(filter_vmap(filter_grad(jtu.tree_map(lambda leaf: leaf, fun))))
    assert compiled(jnp.ones(2)).tolist() == [2, 2]
    assert get_num_traces(compiled) == get_num_traces(fun) == 1
    assert get_num_traces(assert_max_traces(lambda x: x, max_traces=1)) == 0


def test_it_looks_like_what_it_wraps():
    fun = assert_max_traces(twice, max_traces=1)
    assert (fun.__name__, fun.__wrapped__) == ("twice", twice)


def test_callables_without_a_signature_are_fine():
    fun = assert_max_traces(dict, max_traces=1)
    assert fun(a=1) == {"a": 1}
    with pytest.raises(RuntimeError, match="'a' is responsible"):
        fun(a=2)


def test_without_a_count_there_is_no_number():
    with pytest.raises(
        ValueError, match=r"`get_num_traces\(fn=...\)` must be wrapped by `assert_max_traces`; got twice"
    ):
        get_num_traces(filter_jit(twice))
