import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

import eqx_core


class HasArray:
    def __init__(self, value):
        self.value = value

    def __jax_array__(self):
        return self.value


PREDICATES = (
    eqx_core.is_array,
    eqx_core.is_array_like,
    eqx_core.is_inexact_array,
    eqx_core.is_inexact_array_like,
)

# What, then the answers of the four predicates.
CASES = {
    "jax float": (jnp.ones(2), 1, 1, 1, 1),
    "jax int": (jnp.arange(2), 1, 1, 0, 0),
    "jax bool": (jnp.array(True), 1, 1, 0, 0),
    "jax complex": (jnp.ones(2, jnp.complex64), 1, 1, 1, 1),
    "jax bfloat16": (jnp.ones(2, jnp.bfloat16), 1, 1, 1, 1),
    "jax float8": (jnp.ones(2, jnp.float8_e4m3fn), 1, 1, 1, 1),
    "jax int4": (jnp.ones(2, jnp.int4), 1, 1, 0, 0),
    "typed key": (jr.key(0), 1, 1, 0, 0),
    "raw key": (jr.PRNGKey(0), 1, 1, 0, 0),
    "numpy float": (np.ones(2), 1, 1, 1, 1),
    "numpy int": (np.arange(2), 1, 1, 0, 0),
    "numpy complex": (np.ones(2, complex), 1, 1, 1, 1),
    "numpy bfloat16": (np.ones(2, jnp.bfloat16), 1, 1, 1, 1),
    "numpy str": (np.array(["a"]), 1, 1, 0, 0),
    "numpy object": (np.array([None]), 1, 1, 0, 0),
    "float0": (np.zeros(2, jax.dtypes.float0), 1, 1, 0, 0),
    "numpy float scalar": (np.float32(1), 1, 1, 1, 1),
    "numpy int scalar": (np.int8(1), 1, 1, 0, 0),
    "numpy bool scalar": (np.bool_(1), 1, 1, 0, 0),
    "bfloat16 scalar": (jnp.bfloat16(1), 1, 1, 1, 1),
    "bool": (True, 0, 1, 0, 0),
    "int": (1, 0, 1, 0, 0),
    "float": (1.0, 0, 1, 0, 1),
    "complex": (1j, 0, 1, 0, 1),
    "str": ("1", 0, 0, 0, 0),
    "None": (None, 0, 0, 0, 0),
    "list": ([1.0], 0, 0, 0, 0),
    "function": (jnp.sin, 0, 0, 0, 0),
    "dtype": (jnp.float32, 0, 0, 0, 0),
    "struct": (jax.ShapeDtypeStruct((2,), jnp.float32), 0, 0, 0, 0),
    "float __jax_array__": (HasArray(jnp.ones(2)), 0, 1, 0, 1),
    "int __jax_array__": (HasArray(jnp.arange(2)), 0, 1, 0, 0),
}


@pytest.mark.parametrize("case", CASES)
def test_each_predicate_answers_as_documented(case):
    x, *want = CASES[case]
    got = [predicate(x) for predicate in PREDICATES]
    assert got == list(map(bool, want))
    assert all(type(answer) is bool for answer in got)


@given(hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(max_dims=2, max_side=2)))
def test_numpy_arrays_are_arrays_and_inexact_as_numpy_says(x):
    inexact = np.issubdtype(x.dtype, np.inexact)
    assert [predicate(x) for predicate in PREDICATES] == [True, True, inexact, inexact]
    assert [predicate(x.ravel()[0]) for predicate in PREDICATES] == [True, True, inexact, inexact]


def test_each_inexact_predicate_implies_the_other():
    for x, *_ in CASES.values():
        assert not eqx_core.is_inexact_array(x) or (eqx_core.is_array(x) and eqx_core.is_inexact_array_like(x))
        assert not eqx_core.is_array(x) or eqx_core.is_array_like(x)
        assert not eqx_core.is_inexact_array_like(x) or eqx_core.is_array_like(x)


def test_tracers_are_arrays():
    def check(x, n):
        assert [predicate(x) for predicate in PREDICATES] == [True] * 4
        assert [predicate(n) for predicate in PREDICATES] == [True, True, False, False]
        return x * 2

    x, n = jnp.ones(2), jnp.arange(2)
    jax.jit(check)(x, n)
    jax.vmap(check)(x, n)
    jax.grad(lambda x: check(x, n).sum())(x)
    jax.jvp(lambda x: check(x, n), (x,), (x,))


def test_constants_of_a_jaxpr_are_arrays():
    closed = jax.make_jaxpr(lambda x: x + np.arange(3.0, dtype=np.float32))(jnp.ones(3))
    constants = [*closed.consts, *closed.literals]
    assert constants
    assert all(map(eqx_core.is_array, constants))


@pytest.mark.parametrize(
    "case", [case for case in CASES if "numpy bfloat16" not in case and "bfloat16 scalar" not in case]
)
def test_answers_are_those_of_equinox(case):
    equinox = pytest.importorskip("equinox")
    x = CASES[case][0]
    assert [predicate(x) for predicate in PREDICATES] == [getattr(equinox, p.__name__)(x) for p in PREDICATES]
