"""What was saved comes back under its names, for trees of every kind."""

import collections
import io
import os
import string
import subprocess
import sys
from dataclasses import dataclass

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest
from hypothesis import given

import eqx_serialise

Pair = collections.namedtuple("Pair", "first second")


@jtu.register_dataclass
@dataclass
class Linear:
    weight: object
    bias: object


@jtu.register_dataclass
@dataclass
class Swapped:
    bias: object
    weight: object


def bits(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return bits(jr.key_data(leaf))
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        array = np.asarray(leaf, order="C")
        return type(leaf), array.dtype.str, array.shape, array.reshape(-1).view(np.uint8).tobytes()
    return type(leaf), repr(leaf)


def identical(one, other):
    leaves = zip(jtu.tree_leaves(one), jtu.tree_leaves(other), strict=True)
    same = all(bits(a) == bits(b) for a, b in leaves)
    return same and jtu.tree_structure(one) == jtu.tree_structure(other)


dtypes = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufc" and dtype.itemsize <= 16)
dtypes = dtypes.filter(lambda dtype: dtype.name not in {"float128", "complex256"})
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
leaves = arrays | st.integers() | st.floats() | st.text(max_size=5) | st.none() | st.booleans()
keys = st.text(max_size=4) | st.text(string.ascii_lowercase, min_size=1)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.builds(Pair, inner, inner)
        | st.builds(Linear, inner, inner)
    ),
    max_leaves=8,
)


@given(tree=trees)
def test_what_is_loaded_is_what_was_saved(tree, round_trip):
    assert identical(round_trip(tree), tree)


@hypothesis.settings(max_examples=30)
@given(array=arrays.filter(lambda array: array.dtype.isnative))
def test_a_jax_array_is_what_was_saved(array, round_trip):
    with jax.enable_x64(True):
        array = jax.device_put(array)
        assert identical(round_trip(array), array)


TREES = [
    {},
    [],
    None,
    {"a": {"b": {"c": jnp.arange(3)}}},
    [jnp.ones(2), (np.zeros((2, 2)), [jnp.zeros(())])],
    Pair(jnp.ones(1), {"x": Linear(jnp.ones((2, 3)), None)}),
    Linear(np.float32(1.0), [1, 2.0, "three", 4j, True]),
    {"n": {}, "m": [None, []]},
]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_a_tree_comes_back(tree, round_trip):
    assert identical(round_trip(tree), tree)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
def test_typed_keys_come_back(impl, shape, round_trip):
    keys = jr.split(jr.key(7, impl=impl), shape) if shape else jr.key(7, impl=impl)
    back = round_trip({"key": keys})["key"]
    assert back.dtype == keys.dtype
    assert back.shape == keys.shape
    assert bits(back) == bits(keys)


def test_keys_of_another_implementation_are_refused(round_trip):
    with pytest.raises(eqx_serialise.CheckpointError, match=r"dtype \(1\)(.|\n)*key<fry>.*key<rbg>"):
        round_trip(jr.key(0, impl="threefry2x32"), jr.key(0, impl="rbg"))


def test_keys_of_an_implementation_without_a_name_are_refused():
    from jax.extend.random import define_prng_impl

    impl = define_prng_impl(
        key_shape=(1,),
        seed=lambda seed: jnp.zeros((1,), jnp.uint32),
        split=lambda key, shape: jnp.zeros((*shape, 1), jnp.uint32),
        random_bits=lambda key, width, shape: jnp.zeros(shape, jnp.uint32),
        fold_in=lambda key, data: key,
        name="mine",
        tag="m",
    )
    keys = jr.wrap_key_data(jnp.zeros((1,), jnp.uint32), impl=impl)
    with pytest.raises(TypeError, match="PRNG keys of the unregistered implementation"):
        eqx_serialise.save(io.BytesIO(), keys)


def test_leaves_are_found_by_name_and_not_by_order(round_trip):
    saved = Linear(weight=jnp.zeros(3), bias=jnp.ones(3))
    back = round_trip(saved, Swapped(bias=jnp.full(3, 9.0), weight=jnp.full(3, 9.0)))
    np.testing.assert_array_equal(back.weight, np.zeros(3))
    np.testing.assert_array_equal(back.bias, np.ones(3))


def test_like_may_be_shapes_alone(round_trip):
    def model():
        return Linear({"w": jnp.arange(6.0).reshape(2, 3)}, [jr.key(3), jnp.ones(2, jnp.bfloat16)])

    shapes = jax.eval_shape(model)
    assert identical(round_trip(model(), shapes), model())


def test_like_decides_between_jax_and_numpy(round_trip):
    array = np.arange(4, dtype=np.int32)
    assert isinstance(round_trip(array, jnp.zeros(4, jnp.int32)), jax.Array)
    assert type(round_trip(jnp.asarray(array), np.zeros(4, np.int32))) is np.ndarray
    assert type(round_trip(jnp.int32(3), np.int32(0))) is np.int32


def test_a_loaded_numpy_array_is_free_and_writable(round_trip):
    back = round_trip(np.zeros(1000))
    back += 1
    assert back.flags.owndata


@pytest.mark.parametrize("value", [1.5, 3, 2j])
@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_like_decides_whether_a_dtype_is_weak(value, shape, round_trip):
    weak = jnp.broadcast_to(jnp.asarray(value), shape)
    strong = jax.lax.convert_element_type(weak, weak.dtype)
    assert weak.weak_type
    assert not strong.weak_type
    assert round_trip(weak).weak_type
    assert not round_trip(weak, strong).weak_type
    assert round_trip(strong, weak).weak_type
    np.testing.assert_array_equal(round_trip(strong, weak), strong)


def test_an_array_goes_where_like_is(round_trip):
    if len(jax.devices()) < 2:
        pytest.skip("One device is no choice.")
    other = jax.devices()[1]
    there = jax.device_put({"x": jnp.ones(4), "k": jr.key(0), "w": jnp.asarray(1.0)}, other)
    back = round_trip(there)
    assert {leaf.device for leaf in jtu.tree_leaves(back)} == {other}
    assert all(leaf.committed for leaf in jtu.tree_leaves(back))
    assert back["w"].weak_type == there["w"].weak_type
    assert not round_trip(jnp.ones(4)).committed


def test_an_array_is_sharded_as_like_is(round_trip):
    if len(jax.devices()) < 2:
        pytest.skip("One device is no choice.")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("x",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    array = jnp.arange(8.0)
    abstract = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=sharding)
    for like in [abstract, jax.device_put(array, sharding)]:
        back = round_trip(array, like)
        assert back.sharding == sharding
        np.testing.assert_array_equal(back, array)


def test_loaded_arrays_may_be_donated(round_trip):
    tree = {"a": jnp.arange(1024.0), "b": jnp.arange(1024.0)}
    back = round_trip(tree)
    doubled = jax.jit(lambda x: 2 * x, donate_argnums=0)(back["a"])
    np.testing.assert_array_equal(doubled, 2 * np.arange(1024.0))
    np.testing.assert_array_equal(back["b"], np.arange(1024.0))


def test_64_bit_arrays_are_not_narrowed_without_a_word(round_trip):
    if jax.config.jax_enable_x64:
        pytest.skip("JAX has 64-bit arrays.")
    with jax.enable_x64(True):
        array = jnp.arange(3.0, dtype=jnp.float64)
    with pytest.raises(RuntimeError, match=r"that JAX now has; got `f64\[3\]` at `\['w'\]`. Call"):
        round_trip({"w": array})


def test_a_new_process_loads_the_file(tmp_path):
    path = tmp_path / "model.safetensors"
    tree = {"w": jnp.arange(4.0), "k": jr.key(5), "n": [np.arange(3, dtype=np.int16), 0.25]}
    eqx_serialise.save(path, tree)
    code = (
        "import sys, jax, numpy as np, jax.numpy as jnp, jax.random as jr, eqx_serialise\n"
        "like = {'w': jnp.zeros(4), 'k': jr.key(0), 'n': [np.zeros(3, np.int16), 0.0]}\n"
        "tree = eqx_serialise.load(sys.argv[1], like)\n"
        "print(tree['w'].tolist(), jr.key_data(tree['k']).tolist(), tree['n'][0].tolist(), tree['n'][1])"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0.0, 1.0, 2.0, 3.0] [0, 5] [0, 1, 2] 0.25"


def test_one_file_may_hold_several_checkpoints():
    file = io.BytesIO()
    for value in range(3):
        eqx_serialise.save(file, [jnp.full(3, float(value))])
    file.seek(0)
    values = [float(eqx_serialise.load(file, [jnp.zeros(3)])[0][0]) for _ in range(3)]
    assert values == [0, 1, 2]
    assert file.read() == b""


def test_an_unbuffered_file_that_reads_little_at_a_time_gives_everything(saved):
    class Slow(io.BytesIO):
        def readinto(self, buffer):
            return super().readinto(memoryview(buffer)[:7])

    tree = [jnp.arange(30.0)]
    assert identical(eqx_serialise.load(Slow(saved(tree)), tree), tree)


def test_a_file_that_ends_while_it_is_read_is_damaged(saved):
    class Shrinking(io.BytesIO):
        def readinto(self, buffer):
            return 0

    with pytest.raises(eqx_serialise.CheckpointError, match="an end 8 bytes early"):
        eqx_serialise.load(Shrinking(saved([])), [])


def test_a_file_that_is_not_there_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        eqx_serialise.load(tmp_path / "nothing", [])


def test_a_folder_or_a_pipe_is_refused(tmp_path):
    with pytest.raises(OSError, match=r"must be a regular file; got something else of that name"):
        eqx_serialise.load(tmp_path, [])
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match=r"must be a regular file"):
            eqx_serialise.load(tmp_path / "pipe", [])


@pytest.mark.parametrize("file", [io.StringIO(), 3, None])
def test_what_is_no_path_and_no_binary_file_is_refused(file):
    with pytest.raises(TypeError, match=r"must be a path or a binary file; got `\w+`. Open .* `rb`"):
        eqx_serialise.load(file, [])
