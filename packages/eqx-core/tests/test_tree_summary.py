"""tree_summary counts what NumPy counts, and shows it in a table."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st

from eqx_core import Module, is_array, is_inexact_array, tree_summary


class Layer(Module):
    w: object
    b: object = None
    act: object = None


class Model(Module):
    layers: list
    scale: object


arrays = st.builds(
    lambda shape, dtype, numpy: (np if numpy else jnp).zeros(shape, dtype),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.sampled_from([np.float32, np.int32, np.bool_, np.complex64, jnp.bfloat16]),
    st.booleans(),
)
trees = st.recursive(
    arrays | st.sampled_from([1.0, 2, "a", len, None]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(st.sampled_from("ab"), children, max_size=2)
        | st.builds(Layer, children, children)
    ),
    max_leaves=6,
)


def model():
    return Model([Layer(jnp.ones((3, 2)), jnp.ones(3), jax.nn.relu), Layer(np.ones((1, 3), int))], jnp.ones(()))


@given(trees, st.none() | st.integers(0, 3))
def test_totals_are_those_of_the_leaves_at_any_depth(tree, depth):
    summary = tree_summary(tree, depth=depth)
    leaves = [leaf for leaf in jax.tree.leaves(tree) if is_array(leaf)]
    trainable = [leaf for leaf in leaves if is_inexact_array(leaf)]
    assert summary.trainable.parameters == sum(leaf.size for leaf in trainable)
    assert summary.trainable.nbytes == sum(leaf.nbytes for leaf in trainable)
    both = summary.trainable.parameters + summary.other.parameters
    assert both == sum(leaf.size for leaf in leaves) == sum(row.parameters for row in summary.rows)
    assert sum(row.nbytes for row in summary.rows) == sum(leaf.nbytes for leaf in leaves)
    if depth is None:
        assert len(summary.rows) == len(jax.tree.leaves(tree))


@given(trees)
def test_the_text_has_a_line_per_row_and_is_aligned(tree):
    summary = tree_summary(tree)
    lines = str(summary).splitlines()
    assert len(lines) == len(summary.rows) + 5
    assert str(summary) == repr(summary)
    assert all(line == line.rstrip() for line in lines)


def test_rows_name_the_owner_its_class_and_the_leaf():
    rows = [(row.path, row.owner, row.leaf, row.shape, row.dtype) for row in tree_summary(model()).rows]
    assert rows == [
        (".layers[0]", "Layer", ".w", (3, 2), "float32"),
        (".layers[0]", "Layer", ".b", (3,), "float32"),
        (".layers[0]", "Layer", ".act", None, "custom_jvp"),
        (".layers[1]", "Layer", ".w", (1, 3), "int64"),
        ("", "Model", ".scale", (), "float32"),
    ]


def test_the_whole_table():
    assert str(tree_summary(model())) == (
        "path        class  leaf    shape   dtype       parameters  bytes\n"
        "----------------------------------------------------------------\n"
        ".layers[0]  Layer  .w      (3, 2)  float32              6   24 B\n"
        "                   .b      (3,)    float32              3   12 B\n"
        "                   .act            custom_jvp           0    0 B\n"
        ".layers[1]  Layer  .w      (1, 3)  int64                3   24 B\n"
        "(root)      Model  .scale  ()      float32              1    4 B\n"
        "\n"
        "trainable  10  parameters  40 B\n"
        "other       3  parameters  24 B"
    )


def test_lists_and_tuples_are_a_part_of_their_owner():
    rows = tree_summary({"a": ([jnp.ones(1)], {"b": jnp.ones(1)})}).rows
    assert [(row.path, row.leaf) for row in rows] == [("", "['a'][0][0]"), ("['a'][1]", "['b']")]


def test_depth_adds_up_what_is_deeper():
    shown = {
        depth: [(row.path, row.owner, row.leaf, row.parameters) for row in tree_summary(model(), depth=depth).rows]
        for depth in (0, 1, 2)
    }
    assert shown[0] == [("", "Model", "5 leaves", 13)]
    assert shown[1] == [(".layers", "list", "4 leaves", 12), ("", "Model", ".scale", 1)]
    assert shown[2][:2] == [(".layers[0]", "Layer", "3 leaves", 9), (".layers[1]", "Layer", "1 leaf", 3)]
    assert tree_summary(model(), depth=3) == tree_summary(model())


def test_a_negative_depth_is_refused():
    with pytest.raises(ValueError, match=r"`tree_summary\(depth=...\)` must be at least 0; got -1. Leave it out"):
        tree_summary([], depth=-1)


def test_an_array_at_two_places_is_counted_once():
    w = jnp.ones((2, 3))
    summary = tree_summary({"a": w, "b": [w], "c": jnp.ones((2, 3))})
    assert summary.trainable.parameters == 12
    assert [row.note for row in summary.rows] == ["", "same array as ['a']", ""]
    assert "same array as ['a']" in str(summary)


def test_abstract_leaves_count_as_what_they_describe():
    real = tree_summary(model())
    arrays = {"w": jnp.ones((3, 2)), "k": jr.key(0)}
    abstract = jax.eval_shape(lambda: arrays)
    assert tree_summary(abstract).rows == tree_summary(arrays).rows
    assert real.trainable.parameters == 10


def test_tracers_are_summarised():
    @jax.jit
    def f(x):
        assert tree_summary([x]).rows == tree_summary([jnp.ones((2, 3))]).rows
        return x

    f(jnp.ones((2, 3)))


@pytest.mark.parametrize("tree", [(), [], {}, None, [None]])
def test_an_empty_tree_has_an_empty_table(tree):
    summary = tree_summary(tree)
    assert summary.rows == ()
    assert summary.trainable.parameters == summary.other.nbytes == 0
    assert "trainable  0  parameters  0 B" in str(summary)


def test_a_leaf_is_a_tree():
    (row,) = tree_summary(jnp.ones(3)).rows
    assert (row.path, row.owner, row.leaf, row.parameters) == ("", "", "", 3)


def test_small_and_large_dtypes_are_weighed_by_their_bits():
    nbytes = [row.nbytes for row in tree_summary([jnp.ones(3, jnp.int4), jr.key(0), jnp.ones(3, jnp.bfloat16)]).rows]
    assert nbytes == [2, 8, 6]


def test_large_numbers_are_readable():
    text = str(tree_summary(jax.ShapeDtypeStruct((1000, 1000), jnp.float32)))
    assert re.search(r"1,000,000 +3.8 MiB", text)
    assert "4.0 TiB" in str(tree_summary(jax.ShapeDtypeStruct((2**40,), jnp.float32)))


def test_the_placement_of_committed_arrays_is_shown():
    mesh = jax.make_mesh((2,), ("data",))
    spec = jax.sharding.PartitionSpec("data")
    sharded = jax.device_put(jnp.ones((4, 2)), jax.sharding.NamedSharding(mesh, spec))
    committed = jax.device_put(jnp.ones(2), jax.devices()[1])
    abstract = jax.ShapeDtypeStruct((4, 2), jnp.float32, sharding=sharded.sharding)
    notes = [row.note for row in tree_summary([sharded, committed, jnp.ones(2), abstract]).rows]
    assert notes == [f"{spec} on (data=2)", str(jax.devices()[1]), "", f"{spec} on (data=2)"]


def test_no_array_is_kept_alive():
    summary = tree_summary(model())
    assert not [leaf for leaf in jax.tree.leaves(vars(summary)) if is_array(leaf)]


def test_html_is_a_table_with_its_text_escaped():
    class Less(Module):
        w: object

    page = tree_summary({"<b>": Less(jnp.ones(2))})._repr_html_()
    assert page.count("<tr>") == 2
    assert "[&#x27;&lt;b&gt;&#x27;]" in page
    assert "<b>" not in page


def test_notebooks_get_a_table_without_treescope(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    summary = tree_summary(model())
    assert summary._repr_mimebundle_() == {"text/plain": str(summary), "text/html": summary._repr_html_()}


def test_notebooks_get_a_tree_to_browse_with_treescope():
    treescope = pytest.importorskip("treescope")
    summary = tree_summary(model())
    bundle = summary._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/plain"] == str(summary)
    assert "treescope" in bundle["text/html"]
    text = treescope.render_to_text(summary)
    assert ".layers[0]: Layer" in text
    assert "(3, 2), float32, 6 parameters, 24 B" in text


def test_printing_a_summary_does_not_import_treescope():
    code = "import sys, eqx_core; str(eqx_core.tree_summary([1.0])); print('treescope' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
