import collections
import dataclasses
import enum
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
import wadler_lindig as wl

import eqx_core
import eqx_core.internal


class Layer(eqx_core.Module):
    weight: Any
    bias: Any = None
    __secret: Any = 0


@dataclasses.dataclass
class Plain:
    a: Any
    b: int = 3
    c: list = dataclasses.field(default_factory=list)
    hidden: int = dataclasses.field(default=1, repr=False)


class Unset(eqx_core.Module):
    x: Any
    y: Any = 3

    def __init__(self):
        self.x = 1


class Colour(enum.Enum):
    RED = 1


class Lines:
    def __repr__(self):
        return "first\nsecond line\n3"


Pair = collections.namedtuple("Pair", ["x", "y"])


def function(x):
    return x


@functools.wraps(function)
def wrapper(x):
    return function(x)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (jnp.zeros((3, 4)), "f32[3,4]"),
        (jnp.zeros(()), "f32[]"),
        (jnp.zeros((0, 2), jnp.int8), "i8[0,2]"),
        (jnp.asarray(1), "weak_i32[]"),
        (jnp.asarray(1.0), "weak_f32[]"),
        (jnp.array(True), "bool[]"),
        (jnp.zeros(2, jnp.bfloat16), "bf16[2]"),
        (jnp.zeros(2, jnp.float16), "f16[2]"),
        (jnp.zeros(2, jnp.complex64), "c64[2]"),
        (jnp.zeros(2, jnp.uint8), "u8[2]"),
        (jnp.zeros(2, jnp.float8_e4m3fn), "f8_e4m3fn[2]"),
        (jr.key(0), "key<fry>[]"),
        (jr.split(jr.key(0, impl="rbg"), 3), "key<rbg>[3]"),
        (np.zeros(3, np.int64), "i64[3](numpy)"),
        (np.zeros((2, 1), bool), "bool[2,1](numpy)"),
        (np.float32(3), "np.float32(3.0)"),
        (jax.ShapeDtypeStruct((2,), jnp.float32), "ShapeDtypeStruct(shape=(2,), dtype=float32)"),
    ],
)
def test_an_array_is_its_dtype_and_shape(array, text):
    assert eqx_core.tree_pformat(array) == text
    assert eqx_core.tree_pformat({"k": [array]}) == f"{{'k': [{text}]}}"


def test_tracers_print_like_arrays():
    texts = []

    def show(x):
        texts.append(eqx_core.tree_pformat({"x": x}))
        return x

    jax.jit(show)(jnp.zeros((2, 3)))
    jax.vmap(show)(jnp.zeros((2, 3)))
    jax.grad(lambda x: show(x).sum())(jnp.zeros((2, 3)))
    assert texts == ["{'x': f32[2,3]}", "{'x': f32[3]}", "{'x': f32[2,3]}"]


def test_structs_print_as_arrays_on_request():
    struct = jax.ShapeDtypeStruct((2,), jnp.float32)
    weak = jax.ShapeDtypeStruct((), jnp.int32, weak_type=True)
    assert eqx_core.tree_pformat([struct, weak], struct_as_array=True) == "[f32[2], weak_i32[]]"
    assert eqx_core.tree_pformat(struct, struct_as_array=True, short_arrays=False).startswith("ShapeDtypeStruct(")


def test_long_arrays_are_their_repr():
    tree = [jnp.arange(2), np.arange(2), jax.ShapeDtypeStruct((2,), jnp.float32)]
    text = "[\n  Array([0, 1], dtype=int32),\n  array([0, 1]),\n  ShapeDtypeStruct(shape=(2,), dtype=float32)\n]"
    assert eqx_core.tree_pformat(tree, short_arrays=False) == text
    # What comes on several lines stays aligned.
    text = "{\n  'k':\n  array([[0., 0.],\n         [0., 0.]])\n}"
    assert eqx_core.tree_pformat({"k": np.zeros((2, 2))}, short_arrays=False, width=20) == text


def test_a_module_prints_like_a_formatter_would_lay_it_out():
    model = Layer(jnp.zeros((2, 3)), [Layer(np.zeros(3)), (1,)])
    assert eqx_core.tree_pformat(model) == "Layer(weight=f32[2,3], bias=[Layer(weight=f64[3](numpy)), (1,)])"
    assert eqx_core.tree_pformat(model, width=40) == (
        "Layer(\n  weight=f32[2,3],\n  bias=[\n    Layer(weight=f64[3](numpy)), (1,)\n  ]\n)"
    )
    assert eqx_core.tree_pformat(model, width=25, indent=1) == (
        "Layer(\n weight=f32[2,3],\n bias=[\n  Layer(\n   weight=f64[3](numpy)\n  ),\n  (1,)\n ]\n)"
    )
    assert repr(model) == eqx_core.tree_pformat(model)


def test_fields_that_hold_their_default_are_left_out():
    assert eqx_core.tree_pformat(Plain(1)) == "Plain(a=1, c=[])"
    assert eqx_core.tree_pformat(Plain(1, 4)) == "Plain(a=1, b=4, c=[])"
    assert eqx_core.tree_pformat(Unset()) == "Unset(x=1)"


def test_the_name_of_a_private_field_is_shown_as_written():
    assert eqx_core.tree_pformat(Layer(1, 2, 3)) == "Layer(weight=1, bias=2, __secret=3)"


def test_an_attribute_that_is_missing_is_shown_as_such():
    plain = Plain(1)
    del plain.c
    assert eqx_core.tree_pformat(plain) == "Plain(a=1, c=<uninitialised>)"


def test_functions_print_by_name():
    def local():
        return None

    tree = [function, wrapper, local, max]
    name = "test_functions_print_by_name.<locals>.local"
    assert eqx_core.tree_pformat(tree, width=200) == (
        f"[<function function>, <wrapped function function>, <function {name}>, <built-in function max>]"
    )
    tree = [jax.custom_jvp(function), jax.custom_vjp(function)]
    assert eqx_core.tree_pformat(tree) == "[<function function>, <function function>]"
    partial = jax.custom_jvp(functools.partial(function, jnp.zeros(2)))
    assert eqx_core.tree_pformat(partial) == "partial(<function function>, f32[2])"


def test_partials_show_their_parts():
    assert eqx_core.tree_pformat(functools.partial(max, 1, key=np.zeros(2))) == (
        "partial(<built-in function max>, 1, key=f64[2](numpy))"
    )
    partial = jtu.Partial(max, 1, jnp.zeros(2), key=3)
    assert eqx_core.tree_pformat(partial, width=75) == (
        "Partial(\n  func=<built-in function max>, args=(1, f32[2]), keywords={'key': 3}\n)"
    )
    assert eqx_core.tree_pformat([partial], width=20, indent=4).split("\n")[:3] == [
        "[",
        "    Partial(",
        "        func=<built-in function max>,",
    ]


def test_truncate_leaf_is_asked_for_every_object():
    tree = [1, (2, Plain(3)), {"k": 1.5}]
    text = eqx_core.tree_pformat(tree, truncate_leaf=lambda x: isinstance(x, (int, Plain)))
    assert text == "[int(...), (int(...), Plain(...)), {'k': 1.5}]"
    assert eqx_core.tree_pformat(tree, truncate_leaf=lambda x: True) == "list(...)"
    assert eqx_core.tree_pformat(jnp.zeros(2), truncate_leaf=lambda x: True) == "ArrayImpl(...)"
    assert eqx_core.tree_pformat({"k": 1}, truncate_leaf=lambda x: x == "k") == "{str(...): 1}"


def test_a_cycle_ends():
    cycle = [1]
    cycle.append({"k": cycle})
    assert eqx_core.tree_pformat(cycle) == "[1, {'k': <recursive>}]"
    plain = Plain(1)
    plain.c.append(plain)
    assert eqx_core.tree_pformat(plain) == "Plain(a=1, c=[<recursive>])"
    inner = []
    partial = jtu.Partial(function, inner)
    inner.append(partial)
    text = "Partial(func=<function function>, args=([<recursive>],), keywords={})"
    assert eqx_core.tree_pformat(partial) == text
    # The same if `wadler_lindig` has to do it all, because something is on several lines.
    long = eqx_core.tree_pformat([partial, Lines()])
    assert long.count("<recursive>") == 1
    assert wl.pformat(partial, custom=eqx_core.internal.TreeWLCustom(lambda _: False, True, False)) == text


def test_one_object_at_two_places_is_no_cycle():
    shared = [1]
    assert eqx_core.tree_pformat((shared, shared)) == "([1], [1])"


def test_an_object_may_write_itself():
    class Short:
        def __pdoc__(self, **kwargs):
            return wl.TextDoc(f"short indent={kwargs['indent']}")

    class Long:
        def __pdoc__(self, **kwargs):
            return wl.bracketed(wl.TextDoc("<"), [wl.pdoc(jnp.zeros(2), **kwargs)] * 2, wl.comma, wl.TextDoc(">"), 1)

    class No:
        def __pdoc__(self, **kwargs):
            return None

        def __repr__(self):
            return "no"

    assert eqx_core.tree_pformat([Short(), No()], indent=7) == "[short indent=7, no]"
    assert eqx_core.tree_pformat([Short(), Long()]) == "[short indent=2, <f32[2], f32[2]>]"
    assert eqx_core.tree_pformat([Long()], width=10) == "[\n  <\n   f32[2],\n   f32[2]\n  >\n]"


def test_pprint_prints(capsys):
    eqx_core.tree_pprint(Layer([1, 2]), width=10, indent=1)
    assert capsys.readouterr().out == "Layer(\n weight=[\n  1, 2\n ]\n)\n"
    eqx_core.tree_pprint(
        [1, jax.ShapeDtypeStruct((), jnp.int32)],
        truncate_leaf=lambda x: x == 1,
        struct_as_array=True,
        short_arrays=True,
    )
    assert capsys.readouterr().out == "[int(...), i32[]]\n"


def test_the_customisation_can_be_used_alone():
    custom = eqx_core.internal.TreeWLCustom(lambda x: type(x) is int, True, True)
    assert custom("1") is None
    assert custom(jnp.zeros(2)) == wl.TextDoc("f32[2]")
    assert custom(3) == wl.TextDoc("int(...)")
    assert custom(jax.ShapeDtypeStruct((2,), jnp.float32)) == wl.TextDoc("f32[2]")
    assert custom(jax.custom_jvp(function)) == wl.TextDoc("<function function>")
    assert wl.pformat(["a", 3, np.zeros(2)], custom=custom) == "['a', int(...), f64[2](numpy)]"
    assert custom == eqx_core.internal.TreeWLCustom(custom.truncate_leaf, short_arrays=True, struct_as_array=True)


OBJECTS = [
    Plain(1, 4, [Plain(2)]),
    [Plain, int, list, Any, list[int], int | str, jax.Array, jnp.float32, np.dtype("f4")],
    [jnp.arange(3), jnp.zeros((), jnp.bfloat16), jnp.asarray(1), np.float32(3), np.zeros((2,), bool), jr.key(0)],
    [np.array(["a"]), np.array([None]), jr.PRNGKey(0), jax.ShapeDtypeStruct((2,), jnp.float32)],
    [True, 1, 1.5, "a\n'\"", "é\x1b[0m", b"x", None, ..., 1j, range(3), slice(1, 2), Colour.RED, object],
    [
        function,
        wrapper,
        jax.jit(function),
        max,
        np.sin,
        jnp.add,
        jax.custom_jvp(function),
        functools.partial(max, 1, k=2),
    ],
    [Pair(1, Pair([2], 3)), {1}, frozenset([1]), set(), frozenset(), (), [], {}, (1,), ((),), {"a": ()}],
    [collections.OrderedDict(a=1), collections.defaultdict(list, a=1), collections.deque([1])],
    {"a" * 10: [1, 2, 3, "b" * 10], (1, (2, 3)): 4, "c": {"d": {"e": "f" * 30}}, None: [[]]},
    {(Pair(1, 2), "long key" * 3): {"x": 1}},
    ([("one", ("two", ("three", ("four", ("five",)))))],),
    [[[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "x" * 50, [["y" * 30]]],
    {"k": Lines(), "l": [Lines(), 1]},
    jax.sharding.PartitionSpec("a", None),
    type("Numbers", (list,), {})([1, 2]),
    type("Number", (int,), {"__repr__": lambda self: "number"})(1),
    jtu.Partial(max, 1, key=(2, "x" * 20)),
]
WIDTHS = [-3, 0, 1, 7, 13, 20, 33, 60, 80, 1000]


@pytest.mark.parametrize("obj", OBJECTS)
def test_text_is_that_of_wadler_lindig(obj):
    for width in WIDTHS:
        for indent in (0, 2, 5):
            custom = eqx_core.internal.TreeWLCustom(lambda _: False, True, False, indent=indent)
            want = wl.pformat(obj, width=width, indent=indent, custom=custom)
            assert eqx_core.tree_pformat(obj, width=width, indent=indent) == want


# Equinox forgets its options inside of a `jax.tree_util.Partial`.
@pytest.mark.parametrize("obj", [obj for obj in OBJECTS if not isinstance(obj, jtu.Partial)])
@pytest.mark.parametrize(
    "options", [{}, {"short_arrays": False}, {"truncate_leaf": lambda x: isinstance(x, (tuple, str))}]
)
def test_text_is_that_of_equinox(obj, options):
    equinox = pytest.importorskip("equinox")
    for width in WIDTHS:
        assert eqx_core.tree_pformat(obj, width=width, **options) == equinox.tree_pformat(obj, width=width, **options)


def test_text_of_a_partial_is_that_of_equinox():
    equinox = pytest.importorskip("equinox")
    for width in WIDTHS:
        assert eqx_core.tree_pformat([OBJECTS[-1]], width=width) == equinox.tree_pformat([OBJECTS[-1]], width=width)


def test_text_of_a_module_is_that_of_equinox():
    equinox = pytest.importorskip("equinox")

    def build(library):
        class Block(library.Module):
            weight: Any
            activation: Any = jax.nn.gelu
            size: int = library.field(static=True, default=1)

        class Net(library.Module):
            blocks: list
            name: str = library.field(static=True)

        return Net([Block(jnp.zeros((i, 3)), size=i) for i in range(4)] + [Block(None, None)], "net")

    ours, theirs = build(eqx_core), build(equinox)
    for width in WIDTHS:
        assert eqx_core.tree_pformat(ours, width=width) == equinox.tree_pformat(theirs, width=width)
