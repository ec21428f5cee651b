import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core


class Layer(eqx_core.Module):
    weight: object


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (3, "`int` `3`"),
        ("text", "`str` `'text'`"),
        (None, "`None`"),
        (jnp.zeros((2, 3)), "`f32[2,3]`"),
        (np.zeros(2), "`f64[2](numpy)`"),
        (Layer(jnp.zeros(2)), "`Layer(weight=f32[2])`"),
        ([1, 2], "`list` `[1, 2]`"),
        (list(range(100)), f"`list` `{str(list(range(100)))[:77]}...`"),
    ],
)
def test_an_error_describes_what_it_got_in_one_short_line(x, text):
    with pytest.raises((TypeError, ValueError)) as caught:
        eqx_core.tree_at(lambda t: [t[0], x], (1,), [1, 2])
    assert f"; got {text} at position 1, which is not in it" in str(caught.value)
