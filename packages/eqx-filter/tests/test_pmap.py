"""`filter_pmap` is `jax.pmap` on arrays, and lets everything else through."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_pmap, if_array

DEVICES = jax.devices()[:2]
N = len(DEVICES)


class Model(eqx_core.Module):
    weight: jax.Array
    activation: object
    name: str = eqx_core.field(static=True)

    def __call__(self, x, scale=1.0):
        return self.activation(self.weight * x) * scale

    @filter_pmap
    def total(self):
        return self.weight.sum()


def array(*shape):
    return jnp.arange(np.prod(shape), dtype=jnp.float32).reshape(shape)


def equal(a, b):
    assert jtu.tree_structure(a) == jtu.tree_structure(b)
    for x, y in zip(jtu.tree_leaves(a), jtu.tree_leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("in_axes", "out_axes"), [(0, 0), (1, 0), ((0, None), 1), ((2, 0), {"a": 2, "b": (0, None)})])
def test_it_is_pmap_on_arrays(in_axes, out_axes):
    def fun(x, y=None):
        total = jax.lax.psum(x.sum(), "i")
        return {"a": 2 * x, "b": (x + 1, total)} if isinstance(out_axes, dict) else 2 * x

    args = (array(N, N, N), array(N)) if isinstance(in_axes, tuple) else (array(N, N, N),)
    expected = jax.pmap(fun, "i", in_axes=in_axes, out_axes=out_axes)(*args)
    equal(filter_pmap(fun, axis_name="i", in_axes=in_axes, out_axes=out_axes)(*args), expected)


@pytest.mark.parametrize(("in_axis", "out_axis"), [(-1, 0), (-2, -1), (0, -2), (-3, -3)])
def test_axes_count_from_the_end_too(in_axis, out_axis):
    shape = [2, 3, 4]
    shape[in_axis] = N
    x = array(*shape)
    for out_axes in (out_axis, if_array(out_axis), lambda leaf: out_axis):
        out = filter_pmap(lambda x: 2 * x, in_axes=in_axis, out_axes=out_axes)(x)
        equal(out, jnp.moveaxis(2 * x, in_axis, out_axis))


def test_what_is_no_array_goes_in_and_out_as_it_is():
    marker = object()
    x, *rest = filter_pmap(lambda x, *rest: (x, *rest))(array(N), "text", marker, len, None, 1)
    assert rest == ["text", marker, len, None, 1]
    equal(x, array(N))
    equal(filter_pmap(lambda x, n: x * n, in_axes=0)(array(N), 2.0), 2 * array(N))


def test_numpy_arrays_and_keys_are_arrays():
    equal(filter_pmap(lambda x: x + 1)(np.ones((N, 3), np.float32)), jnp.full((N, 3), 2.0))
    keys = jr.split(jr.key(0), N)
    equal(filter_pmap(lambda k: jr.normal(k, (2,)))(keys), jax.vmap(lambda k: jr.normal(k, (2,)))(keys))


def test_models_are_mapped_as_arguments_only():
    model = Model(array(3), jnp.tanh, "model")
    x = jnp.ones((N, 3))
    expected = jnp.tanh(jnp.stack([array(3)] * N) * x)
    np.testing.assert_allclose(filter_pmap(model)(x), expected, rtol=1e-6)
    np.testing.assert_allclose(filter_pmap(lambda m, x: m(x), in_axes=(None, 0))(model, x), expected, rtol=1e-6)
    made = filter_pmap(lambda x: Model(x, jnp.tanh, "made"))(array(N, 3))
    assert (made.name, made.activation) == ("made", jnp.tanh)
    equal(made.total(), array(N, 3).sum(1))
    np.testing.assert_allclose(filter_pmap(lambda m, x: m(x))(made, x), jnp.tanh(array(N, 3)), rtol=1e-6)
    by_name = filter_pmap(eqx_core.Partial(Model.__call__, model), in_axes={"scale": None})
    np.testing.assert_allclose(by_name(x, jnp.array(2.0)), 2 * expected, rtol=1e-6)


def test_axis_size_suffices_to_map_nothing():
    out, text = filter_pmap(lambda: (1.0, "text"), axis_size=N, out_axes=(0, None))()
    equal(out, jnp.full(N, 1.0))
    assert text == "text"
    equal(filter_pmap(lambda x: x, in_axes=None, axis_size=N)(array(3)), jnp.stack([array(3)] * N))


def test_results_without_an_axis_are_those_of_one_device():
    total = filter_pmap(lambda x: jax.lax.psum(x, "i"), axis_name="i", out_axes=None)(array(N))
    equal(total, array(N).sum())


def test_collectives_know_the_size_of_the_axis():
    def fun(x):
        return jax.lax.all_gather(x, "i"), jax.lax.axis_index("i"), x / jax.lax.psum(1.0, "i")

    equal(filter_pmap(fun, axis_name="i")(array(N)), jax.pmap(fun, "i")(array(N)))


def test_devices_can_be_chosen():
    devices = DEVICES[::-1]
    out = filter_pmap(lambda x: 2 * x, devices=devices)(array(N))
    assert [shard.device for shard in out.addressable_shards] == [
        shard.device for shard in jax.pmap(lambda x: 2 * x, devices=devices)(array(N)).addressable_shards
    ]
    equal(out, 2 * array(N))


def test_one_program_takes_two_traces_and_serves_all_calls_of_its_form():
    traces = []

    def fun(x, n):
        traces.append(n)
        return x, n

    for _ in range(2):
        for x in (array(N), np.ones(N, np.float32)):
            filter_pmap(fun)(x, 1)
    assert traces == [1, 1]
    outs = [filter_pmap(fun)(array(N), n)[1] for n in (1, 1.0, True, 0.0, -0.0)]
    assert list(map(type, outs)) == [int, float, bool, float, float]
    assert len(traces) == 10
    filter_pmap(fun)(array(N, 1), 1)
    assert len(traces) == 12
    eqx_core.clear_caches()
    filter_pmap(fun)(array(N), 1)
    assert len(traces) == 14


def test_models_that_differ_in_arrays_share_a_program():
    traces = []

    def activation(x):
        traces.append(None)
        return x

    for scale in (1.0, 2.0):
        model = Model(scale * array(3), activation, "model")
        equal(filter_pmap(model)(jnp.ones((N, 3))), jnp.stack([scale * array(3)] * N))
    assert len(traces) == 2


def test_it_works_within_other_transformations():
    x = array(N, 3)
    mapped = filter_pmap(lambda x: jnp.sum(x**2))
    equal(jax.jit(mapped)(x), mapped(x))
    equal(eqx_filter.filter_jit(mapped)(x), mapped(x))
    equal(jax.grad(lambda x: mapped(x).sum())(x), 2 * x)
    equal(jax.vmap(mapped)(jnp.stack([x, x])), jnp.stack([mapped(x)] * 2))
    assert jax.eval_shape(mapped, x).shape == (N,)


def test_donated_memory_is_given_up():
    fun = filter_pmap(lambda x: x + 1)
    for donate, gone in [("none", False), ("all", True), ("warn", True)]:
        x = fun(array(N, 3))
        filter_pmap(lambda x: 2 * x, donate=donate)(x)
        assert x.is_deleted() is gone


def test_only_one_mode_warns_of_memory_that_cannot_be_used():
    def fun(x):
        return x.sum()

    # On one device, since for several JAX 0.8 does not look.
    filter_pmap(fun, donate="all")(array(1, 3))
    with pytest.warns(UserWarning, match="Some donated buffers were not usable") as record:
        filter_pmap(fun, donate="warn")(array(1, 3))
    assert len(record) == 1


def test_the_old_name_of_a_mode_warns():
    with pytest.warns(DeprecationWarning, match=r"`filter_pmap\(donate='arrays'\)` has been renamed to `donate='all'`"):
        fun = filter_pmap(lambda x: x + 1, donate="arrays")
    assert fun.donate == "all"


@pytest.mark.parametrize("donate", ["none", "all"])
def test_it_compiles_ahead_of_time(donate):
    lowered = filter_pmap(lambda x, n, s: (x * n, s), donate=donate).lower(
        jax.ShapeDtypeStruct((N, 3), jnp.float32), 2.0, "s"
    )
    assert "stablehlo" in lowered.as_text() or "mhlo" in lowered.as_text()
    out, text = lowered.compile()(array(N, 3), 2.0, "s")
    equal(out, 2 * array(N, 3))
    assert text == "s"


def test_a_compiled_program_checks_what_it_was_compiled_for():
    compiled = filter_pmap(lambda x, n: x * n).lower(array(N), 2.0).compile()
    for n in (3.0, 2, "text", (2.0,)):
        with pytest.raises(ValueError, match="A compiled `filter_pmap` function must be called with arguments like"):
            compiled(array(N), n)
    equal(compiled(array(N) + 1, 2.0), 2 * (array(N) + 1))


def test_it_carries_name_and_documentation():
    def fun(x):
        """Say something."""
        return x

    for wrapped in (filter_pmap(fun), filter_pmap(in_axes=0)(fun)):
        assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("fun", "Say something.", fun)
    assert filter_pmap(fun) == filter_pmap(fun) != filter_pmap(fun, in_axes=0)


def test_keyword_arguments_are_refused():
    with pytest.raises(
        RuntimeError, match="keyword arguments cannot be used with functions wrapped with `filter_pmap`"
    ):
        filter_pmap(lambda x: x)(x=array(N))


@pytest.mark.parametrize("name", ["default", "fn", "args", "kwargs", "out"])
def test_options_of_the_past_are_refused(name):
    with pytest.raises(ValueError, match=rf"`filter_pmap\({name}=...\)` must not be given.*0\.10\.0"):
        filter_pmap(lambda x: x, **{name: 0})


@pytest.mark.parametrize("name", ["static_broadcasted_argnums", "donate_argnums"])
def test_options_that_are_ours_to_set_are_refused(name):
    with pytest.raises(ValueError, match=rf"`filter_pmap\({name}=...\)` must not be given; got 0"):
        filter_pmap(lambda x: x, **{name: 0})


def test_unknown_options_are_refused_at_once():
    with pytest.raises(TypeError, match="axes_in"):
        filter_pmap(lambda x: x, axes_in=0)
    with pytest.raises(
        ValueError, match=r"`filter_pmap\(donate=...\)` must be one of 'all', 'warn' or 'none'; got 'x'"
    ):
        filter_pmap(lambda x: x, donate="x")
    with pytest.raises(TypeError, match=r"`filter_pmap\(fun=...\)` must be callable; got 3"):
        filter_pmap(3)


def test_something_must_tell_the_length():
    with pytest.raises(ValueError, match=r"`filter_pmap\(in_axes=...\)` must map over something.*got None"):
        filter_pmap(lambda x: x, in_axes=None)(array(3))


def test_axes_of_several_lengths_are_named():
    with pytest.raises(
        ValueError, match=r"`filter_pmap\(in_axes=...\)` must map over axes of one length; got .*`\[1\]`"
    ):
        filter_pmap(lambda x, y: x)(array(2), array(3))


def test_a_result_that_is_no_array_has_no_axis():
    with pytest.raises(ValueError, match=r"`filter_pmap\(out_axes=...\)` must be None.*got 0 for .*`\[0\]`, 'text'"):
        filter_pmap(lambda x: ("text",), out_axes=0)(array(N))


SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from eqx_filter import filter_pmap, filter_vmap, if_array
assert jax.device_count() == 8
x = jnp.arange(8.0 * 3).reshape(8, 3)

def step(params, x, name):
    grads = jax.grad(lambda params: jnp.mean((x * params["w"] - 1) ** 2))(params)
    return jax.tree.map(lambda p, g: p - 0.1 * jax.lax.pmean(g, "batch"), params, grads), name

params = {"w": jnp.ones(3)}
new, name = filter_pmap(step, in_axes=(None, 0, None), out_axes=None, axis_name="batch")(params, x, "sgd")
grad = np.mean([2 * r * (r - 1) / 3 for r in np.asarray(x)], axis=0)
np.testing.assert_allclose(new["w"], 1 - 0.1 * grad, rtol=1e-5)
assert name == "sgd"

# Two mapped axes, of which the inner one is on one device.
both = filter_pmap(filter_vmap(lambda x: jax.lax.psum(x, ("i", "j")), axis_name="j"), axis_name="i")
np.testing.assert_allclose(both(x), np.full((8, 3), x.sum()))
out = filter_pmap(lambda x: 2 * x, in_axes=1, out_axes=-1, devices=jax.devices()[5:])(x)
np.testing.assert_array_equal(out, 2 * np.asarray(x))
assert {shard.device for shard in out.addressable_shards} == set(jax.devices()[5:])
"""


def test_eight_devices_train_as_one():
    flags = "--xla_force_host_platform_device_count=8"
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
