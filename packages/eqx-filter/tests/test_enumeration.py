"""`Enumeration`: its items under transformations, comparison, choice, inheritance and promotion."""

import copy
import pickle

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
from eqx_filter import Enumeration, EquinoxRuntimeError, filter_jit, filter_vmap


class Colour(Enumeration):
    red = "like a rose"
    green = "like grass"
    blue = "like the sky"


class Size(Enumeration):
    small = "hardly there"
    large = "everywhere"


class Both(Colour, Size):
    grey = "neither"


class Documented(Enumeration):
    """My own words."""

    a = "A"


def test_an_item_is_a_module_with_one_numpy_leaf():
    (leaf,) = jtu.tree_leaves(Colour.green)
    assert (type(leaf), leaf.shape, leaf.dtype, int(leaf)) == (np.ndarray, (), np.int32, 1)
    assert isinstance(Colour.green, eqx_core.Module)
    assert jtu.tree_structure(Colour.green) == jtu.tree_structure(Colour.red) != jtu.tree_structure(Size.large)


def test_an_item_belongs_to_its_very_class():
    assert isinstance(Colour.red, Colour)
    assert not isinstance(Colour.red, Both)
    assert not isinstance(Both.red, Colour)
    assert isinstance(Both.red, Both)
    assert not isinstance("red", Colour)


def test_length_message_and_repr():
    assert (len(Colour), len(Both), len(Enumeration)) == (3, 6, 0)
    assert Colour[Colour.blue] == "like the sky"
    assert repr(Colour.blue) == str(Colour.blue) == f"{__name__}.Colour<like the sky>"
    seen = []
    jax.jit(lambda item: seen.append((Colour[item], repr(item), item.is_traced())))(Colour.red)
    assert seen == [("traced", f"{__name__}.Colour<traced>", True)]
    assert not Colour.red.is_traced()


def test_a_batch_of_items_shows_each_message():
    batch = jtu.tree_map(lambda *leaves: np.stack(leaves), Size.small, Size.large)
    assert Size[batch] == "['hardly there' 'everywhere']"
    assert Size[jax.eval_shape(lambda: Size.small)] == "unknown"


@pytest.mark.parametrize("item", [Size.small, 0, "red", jtu.tree_map(lambda x: x + 9, Colour.red)])
def test_an_index_that_is_no_item_is_refused(item):
    with pytest.raises(ValueError, match=r"`Colour\[item\]` must have"):
        Colour[item]


def test_it_cannot_be_iterated_over():
    with pytest.raises(TypeError, match="not iterable"):
        iter(Colour)


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError):
        Colour.yellow  # noqa: B018


@pytest.mark.parametrize("reserved", ["where", "promote"])
def test_method_names_are_reserved(reserved):
    with pytest.raises(ValueError, match=f"`class Bad` must not have an entry of the name '{reserved}'"):
        type(Enumeration)("Bad", (Enumeration,), {reserved: "text"})


def test_entries_must_be_strings():
    with pytest.raises(ValueError, match="`class Bad` must have strings for entries; got `a` of type `int`"):

        class Bad(Enumeration):
            a = 1


def test_other_bases_are_refused():
    with pytest.raises(ValueError, match=r"`class Bad.*must have only enumerations for bases; got `int`"):

        class Bad(Enumeration, int):
            pass


def test_dunder_names_are_ordinary_and_docstrings_are_made():
    class Odd(Enumeration):
        __special__ = 3
        a = "A"

    assert Odd.__special__ == 3
    assert len(Odd) == 1
    assert Documented.__doc__ == "My own words."
    assert "- `green`: like grass" in Colour.__doc__


def test_comparison_is_known_as_early_as_can_be():
    for equal in (Colour.red == Colour.red, Colour.red != Colour.green):
        assert isinstance(equal, jax.Array)
        assert (equal.shape, equal.dtype, bool(equal)) == ((), np.bool_, True)

    @jax.jit
    def fun(x, item):
        if Colour.red == Colour.red and not (Colour.red != Colour.red):  # noqa: SIM202
            return x, item == Colour.green, item != Colour.green
        raise AssertionError

    _, equal, unequal = fun(jnp.ones(()), Colour.green)
    assert (bool(equal), bool(unequal)) == (True, False)


@pytest.mark.parametrize("other", [Size.small, Both.red, 0, None, "red"])
def test_comparison_with_anything_else_is_refused(other):
    for compare in (lambda a, b: a == b, lambda a, b: a != b):
        with pytest.raises(ValueError, match="`Colour` items must be compared with items of the same enumeration"):
            compare(Colour.red, other)


def test_items_are_not_hashable():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Colour.red)


def test_items_survive_copies_and_pickles():
    for clone in (copy.deepcopy(Colour.blue), copy.copy(Colour.blue), pickle.loads(pickle.dumps(Colour.blue))):
        assert isinstance(clone, Colour)
        assert clone == Colour.blue


def test_where_chooses():
    assert Colour.where(True, Colour.red, Colour.blue) is Colour.red
    assert Colour.where(np.False_, Colour.red, Colour.blue) is Colour.blue
    assert Colour.where(jnp.array(True), Colour.red, Colour.blue) is Colour.red
    choose = jax.jit(lambda pred: Colour.where(pred, Colour.red, Colour.blue))
    assert [Colour[choose(pred)] for pred in (True, False)] == ["like a rose", "like the sky"]
    same = []
    jax.jit(lambda pred: same.append(Colour.where(pred, Colour.red, Colour.red) is Colour.red))(True)
    assert same == [True]


@pytest.mark.parametrize("pred", [1, "yes", np.array([True]), jnp.array(1), None])
def test_where_refuses_other_preds(pred):
    with pytest.raises(ValueError, match=r"`Colour.where\(pred=...\)` must be a bool"):
        Colour.where(pred, Colour.red, Colour.blue)


@pytest.mark.parametrize("item", [Size.small, Both.red, 0])
def test_where_refuses_other_items(item):
    with pytest.raises(ValueError, match=r"`Colour.where\(b=...\)` must be an item of `Colour`"):
        Colour.where(True, Colour.red, item)
    with pytest.raises(ValueError, match=r"`Colour.where\(a=...\)` must be an item of `Colour`"):
        Colour.where(True, item, Colour.red)


def test_items_pass_through_vmap_and_loops():
    items = filter_vmap(lambda x: Colour.where(x > 0, Colour.red, Colour.green))(jnp.array([1.0, -1.0]))
    assert Colour[items] == "['like a rose' 'like grass']"

    @filter_jit
    def last(n):
        def body(state):
            i, item = state
            return i + 1, Colour.where(i % 2 == 0, Colour.blue, item)

        start = jtu.tree_map(jnp.asarray, Colour.red)
        return jax.lax.while_loop(lambda state: state[0] < n, body, (jnp.array(0), start))[1]

    assert Colour[last(jnp.array(0))] == "like a rose"
    assert Colour[last(jnp.array(3))] == "like the sky"


def test_bases_come_first_in_order_of_resolution():
    assert [int(getattr(Both, n)._value) for n in ("red", "green", "blue", "small", "large", "grey")] == list(range(6))
    assert Both[Both.small] == "hardly there"


def test_equal_messages_merge_and_different_ones_warn():
    class Again(Enumeration):
        red = "like a rose"

    class Other(Enumeration):
        red = "like blood"

    class Merged(Colour, Again):
        pass

    assert len(Merged) == 3
    with pytest.warns(UserWarning, match="`Clash` gets two messages for `red`: 'like a rose' and 'like blood'"):

        class Clash(Colour, Other):
            pass

    assert Clash[Clash.red] == "like blood"
    with pytest.warns(UserWarning, match="two messages"):

        class Own(Colour):
            red = "like wine"

    assert (len(Own), Own[Own.red]) == (3, "like wine")


def test_an_impossible_order_fails_as_in_python():
    with pytest.raises(TypeError, match="consistent method resolution"):

        class Bad(Enumeration, Colour):
            pass


def test_promotion_finds_the_item_of_the_same_name():
    assert Both[Both.promote(Size.large)] == "everywhere"
    assert isinstance(Both.promote(Size.large), Both)
    assert Both.promote(Colour.red) == Both.red
    assert jax.jit(lambda item: Both.promote(item))(Size.large) == Both.large
    batch = jtu.tree_map(lambda *leaves: jnp.stack(leaves), Size.large, Size.small)
    assert Both.promote(batch)._value.tolist() == [4, 3]
    assert jax.vmap(Both.promote)(batch)._value.tolist() == [4, 3]


@pytest.mark.parametrize("item", [Both.red, Documented.a, 0, None])
def test_promotion_of_anything_else_is_refused(item):
    with pytest.raises(ValueError, match=r"`Both.promote\(item=...\)` must be an item of an enumeration that"):
        Both.promote(item)


@pytest.mark.parametrize("compile_it", [lambda f: f, filter_jit], ids=["eager", "jit"])
def test_an_item_raises_its_message(compile_it):
    fun = compile_it(lambda x, item: item.error_if(x, item != Colour.red))
    assert fun(jnp.ones(()), Colour.red) == 1
    with pytest.raises(EquinoxRuntimeError, match="EquinoxRuntimeError: like the sky\n"):
        fun(jnp.ones(()), Colour.blue)
