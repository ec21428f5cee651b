import collections
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core


class Layer(eqx_core.Module):
    weight: Any
    bias: Any
    size: int = eqx_core.field(static=True, default=2)

    def first(self):
        return self.weight


class Model(eqx_core.Module):
    layers: Any
    extra: Any = None

    @property
    def last(self):
        return self.layers[-1]


Pair = collections.namedtuple("Pair", ["x", "y"])
Empty = collections.namedtuple("Empty", [])


def model():
    return Model([Layer(jnp.zeros((2, 3)), jnp.zeros(2)), Layer(jnp.ones((2, 3)), None)])


trees = st.recursive(
    st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children, children)
        | st.dictionaries(st.text(max_size=2), children, max_size=3)
        | st.builds(Layer, children, children)
    ),
    max_leaves=10,
)


def follow(tree, path):
    """Walk along a key path."""
    for key in path:
        tree = (
            getattr(tree, key.name)
            if isinstance(key, jtu.GetAttrKey)
            else tree[getattr(key, "key", getattr(key, "idx", None))]
        )
    return tree


@given(trees, st.data())
def test_replacing_a_leaf_by_itself_is_the_identity(tree, data):
    leaves, treedef = jtu.tree_flatten_with_path(tree)
    if leaves:
        path, leaf = data.draw(st.sampled_from(leaves))
        same = eqx_core.tree_at(lambda t: follow(t, path), tree, leaf)
        assert jtu.tree_structure(same) == treedef
        assert all(a is b for a, b in zip(jtu.tree_leaves(same), jtu.tree_leaves(tree), strict=True))


@given(trees, st.data())
def test_only_the_selected_leaves_change(tree, data):
    leaves, treedef = jtu.tree_flatten_with_path(tree)
    if leaves:
        chosen = data.draw(st.lists(st.sampled_from(range(len(leaves))), unique=True, min_size=1, max_size=4))
        new = [object() for _ in chosen]
        got = eqx_core.tree_at(lambda t: [follow(t, leaves[i][0]) for i in chosen], tree, new)
        want = [leaf for _, leaf in leaves]
        for i, x in zip(chosen, new, strict=True):
            want[i] = x
        assert all(a is b for a, b in zip(jtu.tree_leaves(got), want, strict=True))
        assert jtu.tree_structure(got) == treedef


@given(trees, trees)
def test_selecting_the_root_returns_the_replacement(tree, new):
    assert eqx_core.tree_at(lambda t: t, tree, new) is new


def test_a_leaf_of_a_module_is_replaced():
    old = model()
    new = eqx_core.tree_at(lambda m: m.layers[0].weight, old, "new")
    assert new.layers[0].weight == "new"
    assert new.layers[0].bias is old.layers[0].bias
    assert new.layers[1].weight is old.layers[1].weight
    assert isinstance(old.layers[0].weight, jax.Array)


def test_a_subtree_is_replaced_and_may_change_structure():
    old = model()
    new = eqx_core.tree_at(lambda m: m.layers[0], old, [1, 2])
    assert new.layers[0] == [1, 2]
    assert new.layers[1].weight is old.layers[1].weight
    assert eqx_core.tree_at(lambda m: m.layers, old, None).layers is None


def test_nothing_of_a_module_runs():
    class Checked(eqx_core.Module):
        x: int = eqx_core.field(converter=lambda x: x + 1)

        def __check_init__(self):
            assert isinstance(self.x, int)

    new = eqx_core.tree_at(lambda m: m.x, Checked(1), "text")
    assert new.x == "text"


def test_where_may_use_methods_and_properties():
    assert eqx_core.tree_at(lambda m: m.last.first(), model(), 3).layers[1].weight == 3


@pytest.mark.parametrize("kind", [tuple, list])
def test_where_may_return_a_sequence(kind):
    tree = {"a": 1, "b": (2, 3)}
    got = eqx_core.tree_at(lambda t: kind([t["b"][1], t["a"]]), tree, kind([30, 10]))
    assert got == {"a": 10, "b": (2, 30)}


def test_leaves_and_nodes_may_be_mixed():
    assert eqx_core.tree_at(lambda t: (t[0], t[1]), ((1, 2), 3), ("node", "leaf")) == ("node", "leaf")


def test_a_sequence_that_is_a_node_of_the_tree_is_one_part():
    tree = Model([1, 2])
    assert eqx_core.tree_at(lambda t: t.layers, tree, [3]).layers == [3]
    assert eqx_core.tree_at(lambda t: list(t.layers), tree, [3, 4]).layers == [3, 4]
    assert eqx_core.tree_at(lambda t: tuple(t.layers), tree, [3, 4]).layers == [3, 4]
    assert eqx_core.tree_at(lambda t: Pair(*t.layers), tree, [3, 4]).layers == [3, 4]
    assert eqx_core.tree_at(lambda t: t.layers[:1], tree, [3]).layers == [3, 2]


def test_an_empty_sequence_changes_nothing():
    assert eqx_core.tree_at(lambda t: [], (1, 2), []) == (1, 2)
    assert eqx_core.tree_at(lambda t: (), ((), 2), ()) == ((), 2)
    assert eqx_core.tree_at(lambda t: [], None, []) is None


def test_replace_fn_gets_the_old_parts():
    layer = Layer(1, 2)
    got = eqx_core.tree_at(lambda t: (t[0], t[1]), (layer, 5), replace_fn=lambda x: ("old", x))
    assert got[0][1] is layer
    assert got[1] == ("old", 5)
    assert eqx_core.tree_at(lambda t: t[0], (1, 2), replace_fn=lambda x: None) == (None, 2)


def test_one_object_at_several_places_is_replaced_at_one():
    shared = Layer(1, 2)
    new = eqx_core.tree_at(lambda t: t[1], [shared, shared, shared], 0)
    assert new[0] == shared
    assert new[1] == 0
    assert new[2] == shared
    assert eqx_core.tree_at(lambda t: t[1].weight, [shared, shared], 0)[0].weight == 1
    array = jnp.zeros(2)
    got = eqx_core.tree_at(lambda t: t[1], [array, array, array], 0)
    assert got == [array, 0, array]
    assert eqx_core.tree_at(lambda t: t[2], (1, 1, 1), 5) == (1, 1, 5)


@pytest.mark.parametrize("empty", [(), [], {}, Empty(), collections.OrderedDict(), Layer])
def test_empty_containers_are_told_apart(empty):
    empty = eqx_core.Module() if empty is Layer else empty
    got = eqx_core.tree_at(lambda t: t[1], (empty, empty, empty), 5)
    assert got[1] == 5
    assert type(got[0]) is type(got[2]) is type(empty)
    got = eqx_core.tree_at(lambda t: [t[2], t[0]], (empty, empty, empty, 7), [5, 6])
    assert (got[0], got[2], got[3]) == (6, 5, 7)
    assert type(got[1]) is type(empty)


def test_an_empty_tuple_deep_in_a_module_is_replaced():
    tree = Model([Layer((), ()), Layer((), 1)])
    got = eqx_core.tree_at(lambda m: m.layers[0].bias, tree, 5)
    assert (got.layers[0].weight, got.layers[0].bias, got.layers[1].weight) == ((), 5, ())


def test_a_static_node_that_rebuilding_does_not_copy_is_found():
    @jtu.register_static
    class Constant:
        pass

    constant = Constant()
    assert eqx_core.tree_at(lambda t: t[1], [constant, constant], 5) == [constant, 5]


def test_none_is_replaced():
    assert eqx_core.tree_at(lambda t: t[0], (None, 2), 5) == (5, 2)
    assert eqx_core.tree_at(lambda t: t[0], (None, 2, None), 5, is_leaf=lambda x: x is None) == (5, 2, None)
    assert eqx_core.tree_at(lambda t: t, None, 5) == 5


def test_is_leaf_makes_a_node_one_part():
    tree = ((1, 2), 3)
    got = eqx_core.tree_at(
        lambda t: [t[0], t[1]], tree, ["a", "b"], is_leaf=lambda x: isinstance(x, tuple) and x == (1, 2)
    )
    assert got == ("a", "b")
    # `is_leaf` is about the tree, not about the sequence that `where` makes.
    got = eqx_core.tree_at(
        lambda t: (t[0][0], t[1]), tree, ["a", "b"], is_leaf=lambda x: isinstance(x, tuple) and len(x) == 3
    )
    assert got == (("a", 2), "b")
    assert eqx_core.tree_at(lambda t: [t[0], t[1]], [1, 2], [3, 4], is_leaf=lambda x: x == [1, 2] and False) == [3, 4]


def test_partial_of_jax_keeps_its_parts():
    partial = jtu.Partial(max, 1, b=2)
    got = eqx_core.tree_at(lambda p: p.args[0], partial, 7)
    assert (got.func, got.args, got.keywords) == (max, (7,), {"b": 2})
    assert eqx_core.tree_at(lambda p: p.keywords["b"], partial, 7).keywords == {"b": 7}
    assert eqx_core.tree_at(lambda p: p.keywords, partial, {"c": 1}).keywords == {"c": 1}


def test_other_containers_keep_their_type():
    got = eqx_core.tree_at(lambda t: t["b"], collections.OrderedDict(b=1, a=2), 9)
    assert got == collections.OrderedDict(b=9, a=2)
    got = eqx_core.tree_at(lambda t: t["b"], collections.defaultdict(list, b=1), 9)
    assert got.default_factory is list
    assert eqx_core.tree_at(lambda t: t.x, Pair(1, 2), 9) == Pair(9, 2)


def test_it_works_under_transformations():
    def f(x):
        new = eqx_core.tree_at(lambda t: t[0].weight, (Layer(x, 1.0), 3.0), replace_fn=lambda w: 2 * w)
        return new[0].weight * new[1]

    x = jnp.float32(2)
    assert f(x) == 12
    assert jax.jit(f)(x) == 12
    assert jax.grad(f)(x) == 6
    assert (jax.vmap(f)(jnp.arange(3.0)) == jnp.array([0.0, 6.0, 12.0])).all()


def test_it_works_on_shape_structs_and_keys():
    tree = (jax.ShapeDtypeStruct((2,), jnp.float32), jr.key(0))
    got = eqx_core.tree_at(lambda t: t[0], tree, 1)
    assert got[0] == 1
    assert got[1] is tree[1]


def test_many_leaves_are_replaced_in_the_order_given():
    tree = [Layer(jnp.full(1, float(i)), None) for i in range(20)]
    order = [7, 3, 19, 0]
    got = eqx_core.tree_at(lambda t: [t[i].weight for i in order], tree, order)
    assert [got[i].weight for i in order] == order
    assert all(got[i].weight is tree[i].weight for i in range(20) if i not in order)


def test_repeated_calls_agree():
    tree = model()
    for _ in range(2):
        new = eqx_core.tree_at(lambda m: m.layers[0].bias, tree, 1)
        assert new.layers[0].bias == 1
        assert jtu.tree_structure(tree) == jtu.tree_structure(model())


def test_exactly_one_of_replace_and_replace_fn_is_needed():
    with pytest.raises(ValueError, match="exactly one of the two; got neither"):
        eqx_core.tree_at(lambda t: t, 1)
    with pytest.raises(ValueError, match="exactly one of the two; got both"):
        eqx_core.tree_at(lambda t: t, 1, replace=1, replace_fn=lambda x: x)


def test_replace_must_match_the_sequence():
    with pytest.raises(TypeError, match=r"must be a sequence of 2 .* got `int` `5`, which has no length"):
        eqx_core.tree_at(lambda t: [t[0], t[1]], (1, 2), 5)
    with pytest.raises(ValueError, match=r"must have the length .* 2; got 1"):
        eqx_core.tree_at(lambda t: [t[0], t[1]], (1, 2), [5])


@pytest.mark.parametrize(
    "where",
    [
        lambda t: t[0] if isinstance(t[0], int) else t[1],
        lambda t: t[0] if t[0] == 1 else t[1],
        lambda t: [x for x in t if isinstance(x, int)],
        lambda t: [t[0]] if isinstance(t[0], int) else t[0],
        lambda t: t[0] if isinstance(t[0], int) else [t[0]],
        lambda t: t if isinstance(t[0], int) else t[0],
    ],
)
def test_where_must_not_depend_on_leaves(where):
    with pytest.raises(ValueError, match="must use only the structure of `pytree`"):
        eqx_core.tree_at(where, (1, 2), 5)


@pytest.mark.parametrize(
    ("where", "tree"),
    [
        (lambda t: t[0] if t[1] == 1 else t[1], (1, 1)),
        (lambda t: t[0] if t[1] else t[1], (0, 0)),
        (lambda t: t[0] if t[2] else t[1], (1, 1, 0)),
        (lambda t: t[0] if t[2] == "a" else t[1], ("x", "x", "a")),
    ],
)
def test_dependence_on_leaves_is_found_between_identical_objects(where, tree):
    with pytest.raises(ValueError, match="must use only the structure of `pytree`"):
        eqx_core.tree_at(where, tree, 5)


def test_where_must_return_what_is_in_the_tree():
    layer = Layer(1, 2)
    with pytest.raises(TypeError, match="got `int` `3`, which is not in it"):
        eqx_core.tree_at(lambda t: 3, (1, 2), 5)
    with pytest.raises(TypeError, match=r"got `int` `2`, which is not in it.*static fields"):
        eqx_core.tree_at(lambda t: t.size, layer, 5)
    with pytest.raises(TypeError, match="got `int` `2` at position 1, which is not in it"):
        eqx_core.tree_at(lambda t: (t.weight, t.size), layer, (5, 6))
    with pytest.raises(ValueError, match=r"got `dict`.*which is not in it"):
        eqx_core.tree_at(lambda t: {"a": t[0]}, (1, 2), {"a": 5})
    with pytest.raises(ValueError, match=r"got `list` .* at position 0, which is not in it"):
        eqx_core.tree_at(lambda t: [[t[0]], t[1]], (1, 2), (5, 6))
    with pytest.raises(TypeError, match="generator"):
        eqx_core.tree_at(lambda t: (x for x in t), (1, 2), (5, 6))


def test_parts_must_be_separate():
    with pytest.raises(ValueError, match=r"got `\[0\]` together with `\[0\]\[1\]` inside it"):
        eqx_core.tree_at(lambda t: [t[0], t[0][1]], ((1, 2), 3), [5, 6])
    with pytest.raises(ValueError, match=r"got `\[0\]` together with `\[0\]\[1\]` inside it"):
        eqx_core.tree_at(lambda t: [t[0][1], t[0]], ((1, (2,)), 3), [5, 6])


def test_a_part_must_be_named_once():
    with pytest.raises(ValueError, match=r"must return each part once; got `\.weight` twice"):
        eqx_core.tree_at(lambda t: [t.weight, t.weight], Layer(1, 2), [5, 6])
    with pytest.raises(ValueError, match=r"must return each part once; got `\[0\]` twice"):
        eqx_core.tree_at(lambda t: [t[0], t[0]], ((1, 2), 3), [5, 6])


def test_one_none_among_several_is_refused():
    with pytest.raises(ValueError, match=r"uniquely identify .* got `None`.*`is_leaf=lambda x: x is None`"):
        eqx_core.tree_at(lambda t: t[0], (None, None, 1), True)


def test_check_refuses_another_shape_or_dtype():
    m = model()

    def where(m):
        return m.layers[0].weight

    same = eqx_core.tree_at(where, m, jnp.ones((2, 3)), check=True)
    assert same.layers[0].weight.sum() == 6
    assert eqx_core.tree_at(where, m, jnp.ones(7)).layers[0].weight.shape == (7,)
    with pytest.raises(
        ValueError, match=r"shape and dtype at `\.layers\[0\]\.weight`; got `f32\[7\]` for `f32\[2,3\]`"
    ):
        eqx_core.tree_at(where, m, jnp.ones(7), check=True)
    with pytest.raises(ValueError, match=r"`\.layers\[0\]\.weight`; got `bf16\[2,3\]` for `f32\[2,3\]`"):
        eqx_core.tree_at(where, m, replace_fn=lambda w: w.astype(jnp.bfloat16), check=True)
    with pytest.raises(ValueError, match=r"`\.layers\[0\]\.weight`; got `float` `1.0` for `f32\[2,3\]`"):
        eqx_core.tree_at(where, m, 1.0, check=True)


def test_check_refuses_another_structure():
    m = model()
    with pytest.raises(ValueError, match=r"keep the structure at `\.layers\[0\]\.bias`; got `None` for `f32\[2\]`"):
        eqx_core.tree_at(lambda m: m.layers[0].bias, m, None, check=True)
    with pytest.raises(ValueError, match=r"at `\.layers\[0\]` \(`\.bias` in it\); got `f32\[3\]` for `f32\[2\]`"):
        eqx_core.tree_at(lambda m: m.layers[0], m, Layer(jnp.zeros((2, 3)), jnp.zeros(3)), check=True)
    with pytest.raises(ValueError, match="keep the structure at the root"):
        eqx_core.tree_at(lambda m: m, m, (), check=True)
    new = Layer(jnp.ones((2, 3)), jnp.ones(2))
    assert eqx_core.tree_at(lambda m: m.layers[0], m, new, check=True).layers[0] is new
    assert eqx_core.tree_at(lambda t: t[0], (abs, 1), max, check=True) == (max, 1)


REFERENCE_CASES = [
    (lambda t: t[0], (1, 2), 5),
    (lambda t: [t[0], t[1]], (1, 2), (5, 6)),
    (lambda t: [], (1, 2), []),
    (lambda t: (), ((), 2), ()),
    (lambda t: t[1], ((), (), ()), 7),
    (lambda t: [t[1], t[0]], (Empty(), Empty(), ()), [7, 8]),
    (lambda t: t[0], (None, 2), 5),
    (lambda t: t, (), 7),
    (lambda t: [t], (1, 2), [7]),
    (lambda t: t[0][0], [[1, 2]] * 3, 9),
    (lambda t: jtu.tree_leaves(t), [np.zeros(2), {"a": 1}], [1, 2]),
    (lambda t: [t[0], t[1]], (1, 2), "ab"),
    (lambda t: 3, (1, 2), 5),
    (lambda t: t[0] + 1, (1, 2), 5),
    (lambda t: {"a": t[0]}, (1, 2), {"a": 1}),
    (lambda t: [[t[0]], t[1]], (1, 2), (5, 6)),
    (lambda t: [t[0], t[0][0]], ((1, 2), 3), [5, 6]),
    (lambda t: t[0], (None, None), 5),
    (lambda t: t[0] if isinstance(t[0], int) else t[1], (1, 2), 7),
    (lambda t: t[0].shape, (np.zeros(2), 2), 7),
    (lambda t: t["b"], {"a": 1}, 7),
    (lambda t: [t[0], t[1]], (1, 2), 5),
    (lambda t: [t[0], t[1]], (1, 2), [5]),
]


@pytest.mark.parametrize(("where", "tree", "replace"), REFERENCE_CASES)
def test_result_or_kind_of_error_is_that_of_equinox(where, tree, replace):
    equinox = pytest.importorskip("equinox")

    def outcome(tree_at):
        try:
            return tree_at(where, tree, replace)
        except Exception as error:
            return type(error)

    assert outcome(eqx_core.tree_at) == outcome(equinox.tree_at)
