"""tree_doctor finds what was probably not meant, says where, and finds nothing in what is well."""

import collections
import functools
import types
import warnings

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from hypothesis import given, strategies as st

import eqx_core
from eqx_core import Module, Partial, field, tree_check, tree_doctor


class Layer(Module):
    w: object
    tag: object = field(static=True, default="layer")

    def apply(self, x):
        return self.w * x

    def __call__(self, x):
        return self.apply(x)


class Holder(Module):
    a: object
    b: object = None


class Plain:
    def __init__(self, value):
        self.value = value


GLOBAL_LAYER = Layer(jnp.ones(5))
GLOBAL_ARRAY = jnp.ones(5)


def examine(tree):
    return [(finding.path, finding.kind) for finding in tree_doctor(tree, quiet=True)]


def message(tree):
    (finding,) = tree_doctor(tree, quiet=True)
    return finding.message


def quietly(fn, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fn(*args)


def close_over(value):
    return lambda x: value * x


def jitted_layer():
    return jax.jit(Layer(jnp.ones(3)))


@pytest.mark.parametrize(
    ("hide", "where", "advice"),
    [
        (lambda w: functools.partial(Layer(w).apply), "func.__self__.w", "Use `eqx_core.Partial` instead"),
        (lambda w: functools.partial(jnp.add, Layer(w)), "args[0].w", "Use `eqx_core.Partial` instead"),
        (lambda w: functools.partial(jnp.add, y=w), "keywords['y']", "Use `eqx_core.Partial` instead"),
        (lambda w: close_over(Layer(w)), "closure['value'].w", "Store these arrays, or the layer"),
        (lambda w: close_over([{"a": w}]), "closure['value'][0]['a']", "Store these arrays, or the layer"),
        (lambda w: close_over({"a": w, 1: 2}), "closure['value']['a']", "Store these arrays, or the layer"),
        (lambda w: close_over(close_over(w)), "closure['value']closure['value']", "Store these arrays"),
        (lambda w: lambda x, w=w: x, "default['w']", "Store these arrays, or the layer"),
        (lambda w: lambda x, *, w=w: x, "default['w']", "Store these arrays, or the layer"),
        (lambda w: types.MethodType(lambda self, x: x, Layer(w)), "__self__.w", "Store these arrays"),
        (lambda w: jax.jit(Layer(w)), "__wrapped__.w", "Store what it wraps, and transform it"),
        (lambda w: jax.vmap(Layer(w).apply), "__wrapped__.__self__.w", "Store what it wraps, and transform it"),
        (lambda w: jax.jit(jax.grad(close_over(w))), "__wrapped__.__wrapped__closure['value']", "Store what it"),
        (lambda w: jax.custom_jvp(close_over(w)), "__wrapped__closure['value']", "Store what it wraps"),
        (lambda w: jax.checkpoint(close_over(w)), "__wrapped__closure['value']", "Store what it wraps"),
        (lambda w: jax.tree_util.Partial(close_over(w)), "closure['value']", "Store these arrays"),
        (lambda w: Plain(Layer(w)), "value.w", "Make `Plain` a Module."),
        (lambda w: Plain({"a": [Plain(w)]}), "value['a'][0].value", "Make `Plain` a Module."),
    ],
)
def test_arrays_hidden_in_a_callable_or_object_are_found(hide, where, advice):
    tree = quietly(lambda: Holder([hide(jnp.ones(7)), len]))
    (finding,) = tree_doctor(tree, quiet=True)
    assert finding.path.startswith(".a[0]")
    assert finding.kind == "hidden"
    assert f"hides f32[7] at `{where}` from JAX. {advice}" in finding.message
    assert not [leaf for leaf in jax.tree.leaves(tree) if eqx_core.is_array(leaf)]


def test_a_layer_that_a_function_reads_as_a_global_is_found():
    assert "hides f32[5] at `global['GLOBAL_LAYER'].w`" in message([lambda x: GLOBAL_LAYER(x)])
    assert "global['GLOBAL_LAYER'].w" in message([lambda x: jax.vmap(lambda y: GLOBAL_LAYER(y))(x)])
    assert examine([lambda x: GLOBAL_ARRAY * x]) == []


def test_a_long_list_of_hidden_arrays_is_cut_short():
    text = message(close_over([jnp.ones(n) for n in range(10)]))
    assert "f32[0] at `closure['value'][0]`, f32[1]" in text
    assert "f32[2] at `closure['value'][2]` and 7 more from JAX" in text


def test_callables_in_static_fields_are_searched_too():
    assert examine(Layer(jnp.ones(2), close_over(jnp.ones(3)))) == [(".tag", "hidden")]
    assert examine(quietly(Layer, jnp.ones(2), [jitted_layer()])) == [(".tag[0]", "hidden")]


def test_an_array_in_a_static_field_is_found():
    tree = quietly(lambda: [Layer(jnp.ones(2), {"table": np.ones(3)})])
    assert examine(tree) == [("[0].tag['table']", "static array")]
    assert message(tree).startswith("f64[3](numpy) is in a static field")


def test_one_array_at_two_places_is_found():
    w = jnp.ones(2)
    tree = Holder(Layer(w), [w, np.ones(2)])
    assert examine(tree) == [(".b[0]", "same array")]
    assert message(tree).startswith("f32[2] is also at `.a.w`. They are two copies after the first update")
    tree_check(tree)


def test_one_layer_at_two_places_is_found_without_its_arrays():
    layer = Layer(jnp.ones(2))
    tree = Holder(layer, {"x": [layer]})
    assert examine(tree) == [(".b['x'][0]", "shared")]
    assert message(tree).startswith("this Layer is also at `.a`.")
    with pytest.raises(ValueError, match="Layer"):
        tree_check(tree)
    assert examine(Holder(layer.apply, layer)) == [(".b", "shared")]


@given(st.recursive(st.just(()) | st.just("leaf"), lambda children: st.lists(children, max_size=3)), st.booleans())
def test_shared_nodes_are_those_that_tree_check_refuses(tree, twice):
    tree = [tree, tree if twice else None]
    refused = True
    try:
        tree_check(tree)
        refused = False
    except ValueError:
        pass
    assert refused == any(kind == "shared" for _, kind in examine(tree))


def test_a_node_that_contains_itself_is_found():
    nodes = [jnp.ones(2)]
    tree = Holder(nodes)
    nodes.append({"again": nodes})
    assert examine(tree) == [(".a[1]['again']", "cycle")]
    assert message(nodes).startswith("is the root again, which contains it. It cannot be flattened")
    holder = Holder(1)
    object.__setattr__(holder, "b", holder)
    assert examine(holder) == [(".b", "cycle")]


def test_a_method_of_self_is_found():
    layer = Layer([jnp.ones(2)])
    layer.w.append(layer.apply)
    layer.w.append(layer.__call__)
    assert examine([layer]) == [("[0].w[1]", "bound method"), ("[0].w[2]", "bound method")]
    (finding, _) = tree_doctor([layer], quiet=True)
    assert finding.message == "is the method `apply` of `[0]`, which contains it. Call `self.apply` where it is needed."


@pytest.mark.parametrize("number", [0.5, 1j])
def test_a_python_number_that_never_trains_is_found(number):
    assert examine({"scale": number}) == [("['scale']", "number")]
    assert message([number]).startswith(f"{number!r} is no array, so it is never trained. Use `field(converter=")
    assert jax.tree.leaves(eqx_core.apply_updates({"scale": number}, {"scale": None})) == [number]


def test_a_stored_key_is_found():
    tree = {"a": jr.key(0), "key": jr.PRNGKey(0), "rngs": jr.split(jr.PRNGKey(0)), "other": jnp.ones(2, jnp.uint32)}
    assert examine(tree) == [("['a']", "key"), ("['key']", "key"), ("['rngs']", "key")]
    assert message([jr.key(0)]).startswith("key<fry>[] is a PRNG key. Each call draws the same numbers")


def functions_of(module):
    return [value for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


@pytest.mark.parametrize(
    "tree",
    [
        (),
        None,
        Holder(Layer(jnp.ones(2)), [np.ones(2), 1, True, "text", None, len]),
        Partial(Layer(jnp.ones(2)).apply, jnp.ones(2)),
        Layer(jnp.ones(2)).apply,
        functools.partial(jnp.sum, axis=0),
        jax.ShapeDtypeStruct((2,), jnp.float32),
        functions_of(jax.nn),
        functions_of(jnp),
        [Layer, types, collections.OrderedDict(a=jnp.ones(2))],
        close_over([]),
        [(), (), [()] * 2],
    ],
)
def test_nothing_is_found_in_what_is_well(tree):
    assert examine(tree) == []


def test_it_prints_and_returns_the_findings(capsys):
    diagnosis = tree_doctor({"a": 1.0, "b": [2.0]})
    printed = capsys.readouterr().out
    assert printed == f"{diagnosis}\n"
    assert [line.split()[:2] for line in printed.splitlines()] == [["['a']", "number"], ["['b'][0]", "number"]]
    assert repr(diagnosis) == "Diagnosis(2 findings)"
    assert diagnosis
    assert str(diagnosis[0]).startswith("['a']: number: 1.0 is no array")


def test_it_prints_nothing_when_quiet_and_says_so_when_all_is_well(capsys):
    tree_doctor([1.0], quiet=True)
    assert capsys.readouterr().out == ""
    assert not tree_doctor([jnp.ones(2)])
    assert capsys.readouterr().out == "Nothing found.\n"


def test_it_works_on_tracers_and_on_float64():
    @jax.jit
    def f(x):
        assert examine(Holder(x, [x, 1.0])) == [(".b[0]", "same array"), (".b[1]", "number")]
        return x

    f(jnp.ones(2))
    with jax.enable_x64(True):
        assert examine([jnp.ones(2, jnp.float64)]) == []


def test_a_model_that_is_examined_is_left_alone():
    layer = Layer(jnp.ones(2))
    tree = Holder(layer, [close_over(layer)])
    before = jax.tree.leaves(tree)
    examine(tree)
    assert all(x is y for x, y in zip(before, jax.tree.leaves(tree), strict=True))
    assert examine(tree) == examine(tree) == [(".b[0]", "hidden")]
