import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import eqx_core
import eqx_filter

are_arrays = eqx_filter._are_arrays.are_arrays

LEAVES = [
    jnp.ones(2),
    np.ones(2),
    np.float32(1),
    jr.key(0),
    1,
    1.0,
    "a",
    None,
    len,
    jax.ShapeDtypeStruct((), jnp.int32),
]


def test_it_is_is_array_of_each():
    assert are_arrays(LEAVES) == [True] * 4 + [False] * 6
    assert are_arrays(LEAVES[::-1]) == [eqx_core.is_array(leaf) for leaf in reversed(LEAVES)]
    assert are_arrays([]) == []


def test_traced_values_are_told_from_the_rest():
    seen = []
    jax.make_jaxpr(lambda x: seen.append(are_arrays([x, 1, x + 1, "a"])) or x)(1.0)
    jax.vmap(jax.grad(lambda x: seen.append(are_arrays([1, x])) or x))(jnp.ones(2))
    assert seen == [[True, False, True, False], [False, True]]
