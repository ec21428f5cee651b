"""sympy2jax on `eqx.equinox_alias`: expressions become Modules whose constants are learnt."""

import importlib
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
sympy = pytest.importorskip("sympy", reason="sympy is not installed")
if importlib.util.find_spec("sympy2jax") is None:
    pytest.skip("sympy2jax is not installed", allow_module_level=True)
sympy2jax = importlib.import_module("sympy2jax")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def test_expressions_are_computed_and_learnt():
    x = sympy.symbols("x")
    module = sympy2jax.SymbolicModule([sympy.cos(x) + 1.5 * x**2])
    assert isinstance(module, eqx.Module)
    (value,) = eqx.filter_jit(module)(x=jnp.array(0.3))
    np.testing.assert_allclose(value, np.cos(0.3) + 1.5 * 0.09, rtol=1e-5)
    grads = eqx.filter_grad(lambda m, x: m(x=x)[0])(module, jnp.array(0.3))
    assert any(np.isclose(float(leaf), 0.09, rtol=1e-4) for leaf in jax.tree.leaves(grads))


def test_expressions_come_back():
    x, y = sympy.symbols("x y")
    module = sympy2jax.SymbolicModule(expressions=[x * y, x - y])
    assert module.sympy() == [x * y, x - y]
