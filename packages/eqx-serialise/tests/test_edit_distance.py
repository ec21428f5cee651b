"""A name that is not there is answered by the one most like it."""

import functools
import io
import re

import jax.numpy as jnp
import pytest
from hypothesis import given, strategies as st

import eqx_serialise

words = st.text("abc", min_size=1, max_size=6)


@functools.cache
def distance(a, b):
    if not a or not b:
        return len(a) + len(b)
    changed = distance(a[1:], b[1:]) + (a[0] != b[0])
    return min(changed, distance(a[1:], b) + 1, distance(a, b[1:]) + 1)


def nearest(pattern, names):
    """Return the name that an error gives as the nearest to `pattern`."""
    with pytest.raises(ValueError, match=r"which picks none\. The nearest is") as error:
        eqx_serialise.load(io.BytesIO(), {name: jnp.ones(1) for name in names}, only=f"['{pattern}']")
    return re.search(r"nearest is `\['(.*)'\]`\.$", str(error.value))[1]


@given(pattern=words, names=st.sets(words, min_size=1))
def test_the_nearest_name_takes_the_fewest_changes(pattern, names):
    found = nearest(pattern, names - {pattern} or {pattern + "a"})
    assert distance(pattern, found) == min(distance(pattern, name) for name in names - {pattern} or {pattern + "a"})


@pytest.mark.parametrize(
    ("pattern", "names", "expected"),
    [("weigth", ["bias", "weight"], "weight"), ("kitten", ["sitting", "kite", "xyzxyz"], "kite")],
)
def test_known_words(pattern, names, expected):
    assert nearest(pattern, names) == expected
