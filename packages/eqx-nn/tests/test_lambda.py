import jax
import jax.random as jr

import eqx_nn


def test_lambda_calls_its_function_and_ignores_the_key():
    assert eqx_nn.Lambda(abs)(-2) == 2
    assert eqx_nn.Lambda(abs)(-2, key=jr.key(0)) == 2


def test_the_function_is_a_child():
    assert jax.tree.leaves(eqx_nn.Lambda(abs)) == [abs]
    linear = eqx_nn.Linear(2, 2, key=jr.key(0))
    assert len(jax.tree.leaves(eqx_nn.Lambda(linear))) == 2


def test_equal_functions_make_equal_layers():
    assert eqx_nn.Lambda(abs) == eqx_nn.Lambda(abs)
    assert eqx_nn.Lambda(abs) != eqx_nn.Lambda(len)
