"""The table of defaults in docs/initialisers.md says what layers do, and leaves none out."""

import math
import re
from pathlib import Path

import jax
import jax.random as jr
import numpy as np
import pytest

import eqx

PAGE = (Path(__file__).parents[1] / "docs/initialisers.md").read_text()
KEY = jr.key(0)

# Large enough to tell the laws apart.
LAYERS = {
    "Linear": lambda: eqx.nn.Linear(16, 300, key=KEY),
    "Conv": lambda: eqx.nn.Conv2d(4, 300, (2, 3), groups=2, key=KEY),
    "ConvTranspose": lambda: eqx.nn.ConvTranspose1d(4, 300, 3, key=KEY),
    "GRUCell": lambda: eqx.nn.GRUCell(7, 100, key=KEY),
    "LSTMCell": lambda: eqx.nn.LSTMCell(7, 100, key=KEY),
    "Embedding": lambda: eqx.nn.Embedding(100, 50, key=KEY),
    "LayerNorm": lambda: eqx.nn.LayerNorm(4),
    "RMSNorm": lambda: eqx.nn.RMSNorm(4),
    "GroupNorm": lambda: eqx.nn.GroupNorm(2, 4),
    "BatchNorm": lambda: eqx.nn.delete_init_state(eqx.nn.BatchNorm(4, "batch")),
    "PReLU": eqx.nn.PReLU,
    "WeightNorm": lambda: eqx.nn.WeightNorm(eqx.nn.Linear(3, 2, key=KEY)),
}


def _rows():
    """Return, for each parameter of each layer, its law and the limit of it."""
    table = PAGE.partition("| layer | parameters | law | limit |")[2]
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            return
        layers, parameters, law, limit = (cell.strip() for cell in line.strip("|").split("|"))
        for layer in re.findall(r"`(\w+)`", layers):
            for parameter in re.findall(r"`(\w+)`", parameters):
                yield layer, parameter, law, limit.strip("`")


ROWS = list(_rows())


@pytest.mark.parametrize(("name", "parameter", "law", "limit"), ROWS)
def test_a_parameter_starts_as_the_table_says(name, parameter, law, limit):
    layer = LAYERS[name]()
    values = np.asarray(getattr(layer, parameter))
    if law == "uniform":
        bound = eval(limit, {"sqrt": math.sqrt, "prod": math.prod, **vars(layer)})
        assert 0.97 * bound < np.abs(values).max() <= bound
        np.testing.assert_allclose(values.var(), bound**2 / 3, rtol=0.15)
        np.testing.assert_allclose(values.mean(), 0, atol=0.1 * bound)
    elif law == "standard normal":
        np.testing.assert_allclose([values.mean(), values.var()], [0, 1], atol=0.05)
    elif law == "the norms that the weight has":
        np.testing.assert_allclose(values, np.linalg.norm(layer.layer.weight, axis=1, keepdims=True), rtol=1e-6)
    else:
        np.testing.assert_array_equal(values, {"ones": 1, "zeros": 0, "0.25": 0.25}[law])


@pytest.mark.parametrize("name", LAYERS)
def test_no_parameter_is_left_out(name):
    layer = LAYERS[name]()
    fields = {field for field, value in vars(layer).items() if isinstance(value, jax.Array)}
    assert fields == {parameter for row, parameter, *_ in ROWS if row == name}
