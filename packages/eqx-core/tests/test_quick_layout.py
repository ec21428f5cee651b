import collections
import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import wadler_lindig as wl
from hypothesis import given, strategies as st

import eqx_core
import eqx_core.internal

Pair = collections.namedtuple("Pair", ["first", "second"])


@dataclasses.dataclass(frozen=True)
class Node:
    left: object
    right: object = 0


class Lines:
    def __repr__(self):
        return "two\nlines"


atoms = (
    st.integers()
    | st.text(max_size=12)
    | st.none()
    | st.booleans()
    | st.sampled_from([jnp.zeros((3, 4)), np.zeros(2), jnp.asarray(1), abs, int, ..., Lines()])
)
keys = (
    st.text(max_size=12) | st.tuples(st.integers(), st.text(max_size=5)) | st.builds(Pair, st.integers(), st.integers())
)
objects = st.recursive(
    atoms,
    lambda children: (
        st.lists(children, max_size=4)
        | st.tuples(children)
        | st.tuples(children, children, children)
        | st.dictionaries(keys, children, max_size=3)
        | st.builds(Pair, children, children)
        | st.builds(Node, children, children)
        | st.builds(functools.partial, st.just(max), children, key=children)
    ),
    max_leaves=15,
)


@given(objects, st.integers(-1, 90), st.integers(0, 4))
def test_text_is_that_of_wadler_lindig(obj, width, indent):
    custom = eqx_core.internal.TreeWLCustom(lambda _: False, True, False, indent=indent)
    want = wl.pformat(obj, width=width, indent=indent, custom=custom)
    assert eqx_core.tree_pformat(obj, width=width, indent=indent) == want


@given(objects, st.integers(0, 60))
def test_text_is_that_of_wadler_lindig_when_cut(obj, width):
    def cut(x):
        return isinstance(x, (Pair, str)) or x is int

    custom = eqx_core.internal.TreeWLCustom(cut, True, False)
    want = wl.pformat(obj, width=width, indent=2, custom=custom)
    assert eqx_core.tree_pformat(obj, width=width, truncate_leaf=cut) == want


@given(objects, st.integers(0, 60))
def test_layout_changes_white_space_only_and_only_if_it_must(obj, width):
    text, line = eqx_core.tree_pformat(obj, width=width), eqx_core.tree_pformat(obj, width=1_000_000)
    assert "".join(text.split()) == "".join(line.split())
    if "\n" not in line and len(line) <= width:
        assert text == line


def test_the_usual_needs_no_full_layout(monkeypatch):
    usual = [Node(jnp.zeros(2), (Pair(1, 2), {"k": [abs, None, "text", int, functools.partial(max, 1)]}))]
    want = wl.pformat(usual, width=20, indent=2, custom=eqx_core.internal.TreeWLCustom(lambda _: False, True, False))
    monkeypatch.delattr(wl, "pformat")
    assert eqx_core.tree_pformat(usual, width=20) == want


def test_what_it_cannot_do_it_leaves_to_the_library(monkeypatch):
    calls = []
    pformat = wl.pformat
    monkeypatch.setattr(wl, "pformat", lambda obj, **kwargs: calls.append(obj) or pformat(obj, **kwargs))
    cycle = [Lines()]
    cycle.append(cycle)
    for obj, want in [
        (cycle, "[\n  two\n  lines,\n  <recursive>\n]"),
        ({"k": {1, 2}}, "{'k': {1, 2}}"),
        ([int | str], "[int | str]"),
    ]:
        assert eqx_core.tree_pformat(obj, width=14) == want
        assert calls.pop() is obj
