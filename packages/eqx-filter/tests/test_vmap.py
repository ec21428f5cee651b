"""`filter_vmap` is `jax.vmap` on arrays, and lets everything else through."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_vmap, if_array


class Affine(eqx_core.Module):
    weight: jax.Array
    bias: jax.Array
    activation: object
    name: str = eqx_core.field(static=True)

    def __init__(self, key, activation=jax.nn.relu, name="affine"):
        self.weight = jr.normal(key, (2, 3))
        self.bias = jnp.ones(2)
        self.activation = activation
        self.name = name

    def __call__(self, x):
        return self.activation(self.weight @ x + self.bias)

    def apply(self, x, scale):
        return self(x) * scale

    @filter_vmap
    def rows(self):
        return self.bias.sum() + self.weight.sum()

    @filter_vmap(in_axes={"self": None})
    def outputs(self, x):
        return self(x)


def array(*shape):
    return jnp.arange(np.prod(shape), dtype=float).reshape(shape)


def equal(a, b):
    leaves, treedef = jtu.tree_flatten(a)
    others, other_treedef = jtu.tree_flatten(b)
    assert treedef == other_treedef
    for x, y in zip(leaves, others, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


# Laws, with `jax.vmap` as the oracle.


@st.composite
def axes_of_array(draw):
    """A shape, and an axis of it that is 3 long, from the front or from the back."""
    shape = draw(st.lists(st.sampled_from([1, 2]), max_size=3))
    axis = draw(st.integers(0, len(shape)))
    shape.insert(axis, 3)
    return tuple(shape), draw(st.sampled_from([axis, axis - len(shape)]))


def out_axis(draw, rank):
    return draw(st.integers(-rank - 1, rank))


@hypothesis.settings(max_examples=60)
@hypothesis.given(data=st.data())
def test_it_is_vmap_for_all_axes_of_two_arrays(data):
    (shape, axis), (other_shape, other_axis) = data.draw(axes_of_array()), data.draw(axes_of_array())
    in_axes = axis, data.draw(st.sampled_from([other_axis, None]))
    rank, other_rank = len(shape) - 1, len(other_shape) - (in_axes[1] is not None)
    out_axes = {"both": [out_axis(data.draw, rank), out_axis(data.draw, other_rank)], "sum": out_axis(data.draw, 0)}

    def fun(x, y):
        return {"both": [2 * x, y], "sum": x.sum() + y.sum()}

    args = array(*shape), array(*other_shape)
    expected = jax.vmap(fun, in_axes, out_axes)(*args)
    equal(filter_vmap(fun, in_axes=in_axes, out_axes=out_axes)(*args), expected)


@hypothesis.settings(max_examples=30)
@hypothesis.given(data=st.data())
def test_it_is_vmap_when_nested_in_itself(data):
    inner_in, inner_out = data.draw(st.integers(-2, 1)), data.draw(st.integers(-2, 1))
    outer_in, outer_out = data.draw(st.integers(-3, 2)), data.draw(st.integers(-3, 2))
    x = array(2, 3, 4)

    def nested(vmap):
        inner = vmap(lambda x: x * x.sum(), in_axes=inner_in, out_axes=inner_out)
        return vmap(inner, in_axes=outer_in, out_axes=outer_out)

    equal(nested(filter_vmap)(x), nested(jax.vmap)(x))
    equal(filter_vmap(nested(jax.vmap))(array(2, 2, 3, 4)), jax.vmap(nested(filter_vmap))(array(2, 2, 3, 4)))


@hypothesis.settings(max_examples=30)
@hypothesis.given(in_axis=st.integers(-3, 2), out_axis=st.integers(-3, 2))
def test_the_axis_is_moved_and_not_swapped(in_axis, out_axis):
    x = array(2, 3, 4)
    for out_axes in (out_axis, if_array(out_axis), lambda leaf: out_axis, [out_axis]):
        out = filter_vmap(lambda x: [2 * x], in_axes=in_axis, out_axes=out_axes)(x)
        equal(out, [np.moveaxis(2 * np.asarray(x), in_axis, out_axis)])


def test_the_last_axis_of_three_is_where_it_should_be():
    assert filter_vmap(lambda x: 2 * x, out_axes=-1)(array(2, 3, 4)).shape == (3, 4, 2)


@pytest.mark.parametrize("wrap", [jax.jit, eqx_filter.filter_jit, lambda f: f])
def test_it_is_vmap_within_other_transformations(wrap):
    x, w = array(3, 2), array(2)

    def loss(vmap):
        return lambda w, x: vmap(lambda w, x: jnp.sum(jnp.sin(w * x)), in_axes=(None, 0))(w, x).sum()

    equal(wrap(jax.grad(loss(filter_vmap)))(w, x), wrap(jax.grad(loss(jax.vmap)))(w, x))
    equal(wrap(jax.jacfwd(loss(filter_vmap)))(w, x), wrap(jax.jacfwd(loss(jax.vmap)))(w, x))
    per_example = filter_vmap(jax.grad(lambda w, x: jnp.sum(jnp.sin(w * x))), in_axes=(None, 0))
    np.testing.assert_allclose(
        wrap(per_example)(w, x), np.asarray(x) * np.cos(np.asarray(w) * np.asarray(x)), rtol=1e-6
    )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int8, jnp.bool_, jnp.complex64])
def test_dtypes_stay(dtype):
    x = array(2, 3).astype(dtype)
    equal(filter_vmap(lambda x: x)(x), x)


def test_numpy_arrays_and_keys_are_arrays():
    equal(filter_vmap(lambda x: x + 1)(np.ones((2, 3), np.float32)), jnp.full((2, 3), 2.0, jnp.float32))
    keys = jr.split(jr.key(0), 3)
    equal(filter_vmap(lambda k: jr.normal(k, (2,)))(keys), jax.vmap(lambda k: jr.normal(k, (2,)))(keys))


def test_it_works_on_shapes_alone():
    out = jax.eval_shape(filter_vmap(lambda x: x.sum()), jax.ShapeDtypeStruct((3, 2), jnp.float32))
    assert (out.shape, out.dtype) == ((3,), jnp.float32)


def test_an_empty_axis_is_an_axis():
    assert filter_vmap(lambda x: x.sum())(jnp.ones((0, 3))).shape == (0,)


def test_it_leaks_no_tracer():
    with jax.checking_leaks():
        equal(filter_vmap(lambda x: (x, {"a": 2 * x}), out_axes=(0, 1))(array(2, 3))[0], array(2, 3))
        equal(jax.jit(filter_vmap(lambda x: x))(array(2, 3)), array(2, 3))


def test_a_second_call_is_as_the_first():
    fun = filter_vmap(lambda x, y: x + y)
    for x in (array(2, 3), array(2, 3), array(4)):
        equal(fun(x, x), 2 * x)


# What is no array.


def test_what_is_no_array_goes_in_and_out_as_it_is():
    marker, function = object(), len
    out = filter_vmap(lambda x, *rest: (x, rest))(array(3), "text", marker, function, None, 1, {1})
    assert out[1] == ("text", marker, function, None, 1, {1})
    equal(out[0], array(3))


def test_lists_are_the_functions_own():
    config = {"x": 1, "inner": []}

    def fun(config, x):
        config["x"] = x
        config["inner"].append(x)
        return x

    equal(filter_vmap(fun)(config, array(3)), array(3))
    equal(filter_vmap(fun, in_axes=(None, 0))(config, array(3)), array(3))
    assert config == {"x": 1, "inner": []}


def test_a_model_is_mapped_as_an_argument_only():
    model = Affine(jr.key(0))
    x = array(4, 3)
    expected = np.maximum(np.asarray(x) @ np.asarray(model.weight).T + np.asarray(model.bias), 0)
    np.testing.assert_allclose(filter_vmap(model)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(filter_vmap(lambda m, x: m(x), in_axes=(None, 0))(model, x), expected, rtol=1e-6)


def test_an_ensemble_is_made_by_its_constructor_and_called_by_its_members():
    keys = jr.split(jr.key(0), 4)
    ensemble = filter_vmap(lambda key: Affine(key, jnp.tanh, "member"))(keys)
    assert isinstance(ensemble, Affine)
    assert (ensemble.activation, ensemble.name, ensemble.bias.shape) == (jnp.tanh, "member", (4, 2))
    equal(ensemble.weight, jax.vmap(lambda key: jr.normal(key, (2, 3)))(keys))
    x = array(3)
    out = filter_vmap(lambda m, x: m(x), in_axes=(if_array(0), None))(ensemble, x)
    expected = jnp.tanh(jnp.einsum("eij,j->ei", ensemble.weight, x) + ensemble.bias)
    np.testing.assert_allclose(out, expected, rtol=1e-6)
    equal(filter_vmap(Affine)(keys).weight, ensemble.weight)


def test_methods_partials_and_lambdas_are_mapped():
    model = Affine(jr.key(0))
    x = array(4, 3)
    expected = 3 * jax.vmap(model)(x)
    for fun in (model.apply, eqx_core.Partial(model.apply), functools.partial(model.apply), lambda *a: model.apply(*a)):
        np.testing.assert_allclose(filter_vmap(fun, in_axes=(0, None))(x, 3.0), expected, rtol=1e-6)
    np.testing.assert_allclose(filter_vmap(Affine.apply, in_axes=(None, 0, None))(model, x, 3.0), expected, rtol=1e-6)


def test_as_a_method_it_maps_over_self():
    ensemble = filter_vmap(Affine)(jr.split(jr.key(0), 4))
    expected = ensemble.bias.sum(1) + ensemble.weight.sum((1, 2))
    np.testing.assert_allclose(ensemble.rows(), expected, rtol=1e-6)
    np.testing.assert_allclose(Affine.rows(ensemble), expected, rtol=1e-6)


def test_as_a_method_it_can_leave_self_alone():
    model = Affine(jr.key(0))
    np.testing.assert_allclose(model.outputs(array(4, 3)), jax.vmap(model)(array(4, 3)), rtol=1e-6)


def test_modules_work_in_control_flow():
    model = Affine(jr.key(0), name="cell")
    xs, ys = array(5, 3, 2), jnp.ones((3, 2))
    carry, _ = jax.lax.scan(lambda c, x: (filter_vmap(lambda c, x: c + x)(c, x), None), ys, xs)
    equal(carry, ys + xs.sum(0))

    def loss(scale, i):
        layers = [filter_vmap(lambda x: scale * x), filter_vmap(lambda x: scale**2 * x)]
        return jax.lax.switch(i, [lambda x, f=f: f(x) for f in layers], array(3)).sum()

    np.testing.assert_allclose([jax.grad(loss)(2.0, jnp.array(i)) for i in (0, 1)], [3.0, 12.0])
    out = jax.lax.map(lambda x: filter_vmap(model.apply, in_axes=(0, None))(x, 2.0), array(2, 4, 3))
    np.testing.assert_allclose(out, 2 * jax.vmap(jax.vmap(model))(array(2, 4, 3)), rtol=1e-6)


# The specifications of axes.


def test_axes_are_given_by_prefix_trees():
    args = {"a": array(2, 3), "b": (array(3, 2), array(5))}, array(3)
    in_axes = {"a": 1, "b": (0, None)}, if_array(0)

    def fun(tree, y):
        return tree["a"].shape, tree["b"][0].shape, tree["b"][1].shape, y.shape

    assert filter_vmap(fun, in_axes=in_axes)(*args) == ((2,), (2,), (5,), ())
    assert filter_vmap(fun, in_axes=list(in_axes))(*args) == ((2,), (2,), (5,), ())


def test_a_prefix_may_be_a_module():
    model = filter_vmap(Affine, out_axes=if_array(-1))(jr.split(jr.key(0), 4))
    assert model.weight.shape == (2, 3, 4)
    axes = jtu.tree_map(lambda leaf: -1 if eqx_core.is_array(leaf) else None, model)
    np.testing.assert_allclose(
        filter_vmap(lambda m: m.bias.sum() + m.weight.sum(), in_axes=(axes,))(model),
        model.bias.sum(0) + model.weight.sum((0, 1)),
        rtol=1e-6,
    )


def test_axes_are_given_by_names():
    def fun(x, y, *rest, **_):
        return x.shape, y.shape, tuple(r.shape for r in rest)

    x = array(3, 3)
    assert filter_vmap(fun, in_axes={"x": None, "rest": (1, None)})(x, x, x, x) == ((3, 3), (3,), ((3,), (3, 3)))
    assert filter_vmap(fun, in_axes={"rest": None})(x, x, x) == ((3,), (3,), ((3, 3),))
    assert filter_vmap(functools.partial(fun, x), in_axes={"y": None})(x, x)[1] == (3, 3)
    assert filter_vmap(eqx_core.Partial(fun, x), in_axes={"y": None})(x, x)[1] == (3, 3)
    model = Affine(jr.key(0))
    assert filter_vmap(model.apply, in_axes={"scale": None})(array(4, 3), 2.0).shape == (4, 2)


def test_axes_are_given_by_functions_of_the_leaf():
    def last(leaf):
        return leaf.ndim - 1 if eqx_core.is_array(leaf) and leaf.ndim else None

    out = filter_vmap(lambda x, y, n: (x + y, n), in_axes=last, out_axes=last)(array(2, 3), jnp.array(1.0), 7)
    equal(out[0], array(2, 3).T + 1)
    assert out[1] == 7


def test_results_that_do_not_depend_on_what_is_mapped_need_no_axis():
    x, y = array(3), array(2)
    out = filter_vmap(lambda x, y: (x, y, 2 * y, 1.0), in_axes=(0, None), out_axes=(0, None, None, None))(x, y)
    equal(out[:3], (x, y, 2 * y))
    assert out[3] == 1.0
    equal(filter_vmap(lambda x, y: y, in_axes=(0, None))(x, y), jnp.stack([y] * 3))


def test_a_number_in_the_result_is_repeated_if_an_axis_is_asked_for():
    assert filter_vmap(lambda: 1.0, axis_size=3)() == 1.0
    equal(filter_vmap(lambda: 1.0, axis_size=3, out_axes=0)(), jnp.ones(3))
    equal(filter_vmap(lambda x: (x, 2), out_axes=0)(array(3)), (array(3), jnp.full(3, 2)))


def test_axis_size_suffices_to_map_nothing():
    equal(filter_vmap(lambda x: x, in_axes=None, axis_size=3)(array(2)), jnp.stack([array(2)] * 3))


def test_if_nothing_is_mapped_the_function_is_just_called():
    assert filter_vmap(lambda x: (x, "text"), in_axes=None)(1.0) == (1.0, "text")
    equal(filter_vmap(lambda x: x, in_axes=None, out_axes=None)(array(2)), array(2))
    assert filter_vmap(lambda: "nothing")() == "nothing"
    assert filter_vmap(lambda x: x, out_axes=None)({"a": [None, ()]}) == {"a": [None, ()]}


def test_collectives_know_the_axis_by_its_name():
    def fun(x):
        return jax.lax.psum(x, "i"), jax.lax.axis_index("i")

    equal(filter_vmap(fun, axis_name="i")(array(3)), jax.vmap(fun, axis_name="i")(array(3)))
    both = filter_vmap(
        filter_vmap(lambda x: jax.lax.psum(x, ("i", "j")), axis_name="i", out_axes=None),
        axis_name="j",
        out_axes=None,
    )
    np.testing.assert_allclose(both(array(2, 3)), 15.0)


def test_options_reach_vmap():
    out = jax.make_jaxpr(filter_vmap(lambda x: x + 1, spmd_axis_name="x"))(array(3))
    assert str(out) == str(jax.make_jaxpr(jax.vmap(lambda x: x + 1, spmd_axis_name="x"))(array(3)))


# It is a callable Module.


def test_it_carries_name_and_documentation():
    def fun(x):
        """Say something."""

    for wrapped in (filter_vmap(fun), filter_vmap(in_axes=0)(fun)):
        assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("fun", "Say something.", fun)


def test_its_leaves_are_those_of_the_function():
    model = Affine(jr.key(0))
    leaves = jtu.tree_leaves(filter_vmap(model, in_axes={"x": 0}, out_axes=(0,)))
    assert [id(leaf) for leaf in leaves] == [id(leaf) for leaf in jtu.tree_leaves(model)]
    doubled = jtu.tree_map(lambda leaf: 2 * leaf if eqx_core.is_array(leaf) else leaf, filter_vmap(model))
    equal(doubled(array(4, 3)), jax.vmap(lambda x: 2 * model(x))(array(4, 3)))


def test_two_of_the_same_are_equal_and_share_a_trace():
    traces = []

    def fun(x):
        traces.append(None)
        return x

    make = functools.partial(filter_vmap, fun, in_axes={"x": if_array(0)}, axis_name="i")
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make() != filter_vmap(fun)
    for _ in range(2):
        eqx_filter.filter_jit(make())(array(3))
        eqx_filter.filter_jit(lambda f, x: f(x))(make(), array(3))
    assert len(traces) <= 3


def test_gradients_reach_into_it():
    mapped = filter_vmap(Affine(jr.key(0), jnp.tanh))
    grads = eqx_filter.filter_grad(lambda f, x: f(x).sum())(mapped, array(4, 3))
    expected = jax.grad(lambda b: jnp.tanh(array(4, 3) @ mapped.fun.weight.T + jnp.stack([b] * 4)).sum())(
        mapped.fun.bias
    )
    np.testing.assert_allclose(grads.fun.bias, expected, rtol=1e-5)


def test_what_the_function_raises_comes_through():
    def fun(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        filter_vmap(fun)(array(3))


def test_it_can_call_itself():
    def fun(x):
        return x if x.ndim == 0 else mapped(x) + 1

    mapped = filter_vmap(fun)
    equal(mapped(array(2, 2, 2)), array(2, 2, 2) + 2)


# Errors.


def test_keyword_arguments_are_refused():
    with pytest.raises(
        RuntimeError, match="keyword arguments cannot be used with functions wrapped with `filter_vmap`"
    ):
        filter_vmap(lambda x: x)(x=array(3))


@pytest.mark.parametrize("name", ["default", "fn", "args", "kwargs", "out"])
def test_options_of_the_past_are_refused(name):
    with pytest.raises(ValueError, match=rf"`filter_vmap\({name}=...\)` must not be given.*0\.10\.0"):
        filter_vmap(lambda x: x, **{name: 0})


def test_unknown_options_are_refused_at_once():
    with pytest.raises(TypeError, match="axes_in"):
        filter_vmap(lambda x: x, axes_in=0)


def test_what_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"`filter_vmap\(fun=...\)` must be callable; got 3"):
        filter_vmap(3)


@pytest.mark.parametrize("spec", ["text", 1.5, True, ("text",), lambda leaf: "text", lambda leaf: True])
def test_axes_must_be_ints_none_or_functions(spec):
    for option in ("in_axes", "out_axes"):
        with pytest.raises(ValueError, match=rf"`filter_vmap\({option}=\.\.\.\)` must consist of None, ints, and func"):
            filter_vmap(lambda x: (x,), **{option: spec})(array(3))


def test_a_specification_must_be_a_prefix():
    with pytest.raises(ValueError, match=r"`filter_vmap\(in_axes=...\)` must have the structure.*got \(0, 0\)"):
        filter_vmap(lambda x: x, in_axes=(0, 0))(array(3))
    with pytest.raises(ValueError, match=r"`filter_vmap\(out_axes=...\)` must have the structure.*\['b'\]|'b'"):
        filter_vmap(lambda x: {"a": x}, out_axes={"b": 0})(array(3))


def test_names_must_be_those_of_arguments_that_are_passed():
    message = r"`filter_vmap\(in_axes=...\)` must have the names.*got \['y'\], which did not correspond to any argument"
    with pytest.raises(ValueError, match=message):
        filter_vmap(lambda x, y=1: x, in_axes={"y": None})(array(3))
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        filter_vmap(lambda x, y: x, in_axes={"x": None})(array(3))


def test_names_are_refused_for_what_does_not_tell_them():
    with pytest.raises(ValueError, match=r"must be a tuple.*as `dict` does not tell the names"):
        filter_vmap(dict, in_axes={"x": 0})(array(3))


def test_a_leaf_without_the_axis_is_named():
    with pytest.raises(
        ValueError, match=r"must be None for what has no such axis; got 0 for .*`\[0\]\['a'\]`, f\d\d\[\]"
    ):
        filter_vmap(lambda x: x)({"a": jnp.ones(())})
    with pytest.raises(ValueError, match=r"got -2 for the arguments' `\[0\]`, f\d\d\[3\]"):
        filter_vmap(lambda x: x, in_axes=-2)(array(3))
    with pytest.raises(ValueError, match=r"got 0 for the arguments' `\[1\]`, 1\.5"):
        filter_vmap(lambda x, y: x, in_axes=0)(array(3), 1.5)


def test_axes_of_several_lengths_are_named():
    with pytest.raises(
        ValueError, match=r"inconsistent sizes: 3 for axis 0 of `\[0\]`, f\d\d\[3\] and 4 for axis 1 of "
    ):
        filter_vmap(lambda x, y: x, in_axes=(0, 1))(array(3), array(2, 4))
    with pytest.raises(
        ValueError, match=r"inconsistent sizes: `axis_size=2` and 3 for axis 0 of the arguments' `\[0\]`"
    ):
        filter_vmap(lambda x: x, axis_size=2)(array(3))


def test_without_any_size_no_axis_can_be_made():
    with pytest.raises(
        ValueError, match=r"Cannot resolve batch dimension: .* got 0 for the result's `\['a'\]`, f\d\d\[3\]"
    ):
        filter_vmap(lambda x: {"a": x}, in_axes=None)(array(3))


def test_a_result_that_is_no_array_has_no_axis():
    with pytest.raises(ValueError, match=r"`filter_vmap\(out_axes=...\)` must be None.*got 1 for .*`\[0\]`, 'text'"):
        filter_vmap(lambda x: ("text",), out_axes=1)(array(3))


@pytest.mark.parametrize("name", [None, "i"])
def test_a_result_that_is_mapped_needs_an_axis(name):
    with pytest.raises(ValueError, match=r"`filter_vmap\(out_axes=...\)` must have an axis.*got None for `\['b'\]`"):
        filter_vmap(lambda x: {"a": x, "b": x}, out_axes={"a": 0, "b": None}, axis_name=name)(array(3))


def test_an_error_of_the_function_is_not_taken_for_ours():
    def fun(x):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        filter_vmap(fun, out_axes=None)(array(3))
