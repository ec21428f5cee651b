"""To donate an array that is needed elsewhere is an error that names both places."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
from eqx_filter import filter_jit


class Tied(eqx_core.Module):
    embed: jax.Array
    unembed: jax.Array

    @filter_jit(donate="all")
    def doubled(self):
        return jax.tree.map(lambda x: 2 * x, self)


def shared():
    x = jnp.ones(3)
    return Tied(x, x)


@pytest.mark.parametrize("donate", ["all", "warn"])
def test_an_array_that_appears_twice_in_a_model(donate):
    model = shared()
    fun = filter_jit(lambda model, n: jax.tree.map(lambda x: n * x, model), donate=donate)
    for _ in range(2):
        match = (
            rf"`filter_jit\(donate='{donate}'\)` must get .* only once; got the same f32\[3\] at `model\.embed` and at "
            r"`model\.unembed`\. Pass `jnp\.copy`.*`eqx_core\.tree_doctor\(model\)`"
        )
        with pytest.raises(ValueError, match=match):
            fun(model, 2)
    assert not model.embed.is_deleted()
    out = fun(Tied(model.embed, jnp.copy(model.embed)), 2)
    assert out.unembed.tolist() == [2.0] * 3
    assert model.embed.is_deleted()


def test_an_array_that_another_argument_holds_even_if_that_one_is_kept():
    x = jnp.ones(3)
    fun = filter_jit(lambda kept, *, given: (kept["a"] + 1, given * 2), donate="all-except-first")
    with pytest.raises(ValueError, match=r"got the same f32\[3\] at `kept\['a'\]` and at `given`"):
        fun({"a": x, "n": 1}, given=x)
    assert not x.is_deleted()


def test_an_array_of_the_callable_itself():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match=r"at `fun\.args\[0\]` and at `args\[0\]`|at `fun\.args\[0\]` and at `y`"):
        filter_jit(eqx_core.Partial(jnp.add, x), donate="all")(x)


def test_a_method():
    with pytest.raises(ValueError, match=r"at `self\.embed` and at `self\.unembed`"):
        shared().doubled()


def test_what_is_not_donated_may_appear_twice():
    x = jnp.ones(3)
    kept, given = filter_jit(lambda kept, given: (kept, given * 2), donate="all-except-first")([x, x], jnp.ones(3))
    assert [leaf.tolist() for leaf in (*kept, given)] == [[1.0] * 3, [1.0] * 3, [2.0] * 3]
    assert filter_jit(lambda a, b: a + b)(x, x).tolist() == [2.0] * 3


def test_arrays_of_numpy_may_appear_twice():
    x = np.ones(3, np.float32)
    assert filter_jit(lambda a, b: a + b, donate="all")(x, x).tolist() == [2.0] * 3


def test_what_is_being_traced_may_appear_twice():
    fun = filter_jit(lambda a, b: a * b, donate="all")
    x = jnp.arange(3.0)
    assert jax.jit(lambda x: fun(x, x))(x).tolist() == [0.0, 1.0, 4.0]
    assert jax.jit(jax.grad(lambda x: fun(x, x).sum()))(x).tolist() == [0.0, 2.0, 4.0]
    assert jax.jit(jax.vmap(lambda x: fun(x, x)))(x).tolist() == [0.0, 1.0, 4.0]


def test_a_compiled_function_says_so_too():
    x = jnp.ones(3)
    compiled = filter_jit(lambda a, b: a + b, donate="all").lower(x, jnp.ones(3)).compile()
    with pytest.raises(ValueError, match=r"got the same f32\[3\] at `a` and at `b`"):
        compiled(x, x)
    assert compiled(x, jnp.ones(3)).tolist() == [2.0] * 3
