"""A result is described as JSON, and rebuilt from it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
import eqx_filter._result

describe, rebuild = eqx_filter._result.describe, eqx_filter._result.rebuild

LEAVES = st.sampled_from([1, -0.5, True, "a", None, np.ones(2, np.float32), np.int8(1)])
TREES = st.recursive(
    LEAVES,
    lambda t: (
        st.lists(t, max_size=3) | st.tuples(t, t) | st.dictionaries(st.sampled_from(["b", "a", ""]), t, max_size=3)
    ),
)


class Model(eqx_core.Module):
    weight: object
    activation: object


@given(TREES)
def test_rebuilding_undoes_describing(tree):
    arrays = [x for x in jax.tree.leaves(tree) if eqx_core.is_array(x)]
    description = json.loads(json.dumps(describe(tree, {})))
    rebuilt = rebuild(description, iter(arrays), {})
    assert jax.tree.structure(rebuilt) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(rebuilt), jax.tree.leaves(tree), strict=True):
        assert a is b if eqx_core.is_array(b) else (type(a), a) == (type(b), b)


def test_what_is_like_an_argument_is_rebuilt_like_it():
    out = {"new": [Model(jnp.zeros(2), len)]}
    description = json.loads(json.dumps(describe(out, {"x": jnp.ones(2), "model": Model(jnp.ones(2), len)})))
    given_model = Model("its own", len)
    rebuilt = rebuild(description, iter([jnp.zeros(2)]), {"model": Model(jnp.ones(3), len)})
    assert (rebuilt["new"][0].weight.tolist(), rebuilt["new"][0].activation) == ([0.0, 0.0], len)
    by_path = rebuild(description, iter([jnp.zeros(2)]), None)
    assert by_path["new"][0]["model.weight"].tolist() == [0.0, 0.0]
    with pytest.raises(TypeError, match=r"got Model\(.*at `out\['new'\]\[0\]`"):
        describe(out, {"model": given_model})


@pytest.mark.parametrize("value", [len, 1j, b"a", {1: 2}, {1, 2}, Model(1, len), Ellipsis])
def test_anything_else_is_refused(value):
    with pytest.raises(TypeError, match=r"`filter_export\(fun=...\)` must return arrays, None, .* at `out\[0\]`"):
        describe([value], {"x": 1})
