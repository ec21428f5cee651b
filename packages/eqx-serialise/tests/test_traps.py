"""What other libraries have got wrong, and must not go wrong here."""

import io

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_serialise


class Saved(eqx_core.Module):
    w: jax.Array
    v: jax.Array


class Reordered(eqx_core.Module):
    v: jax.Array
    w: jax.Array


class Renamed(eqx_core.Module):
    a: jax.Array
    b: jax.Array


SAVED = Saved(jnp.zeros(3), jnp.ones(3))


def test_fields_of_one_shape_do_not_change_places_when_the_class_is_put_in_order(round_trip):
    back = round_trip(SAVED, Reordered(v=jnp.full(3, 9.0), w=jnp.full(3, 9.0)))
    np.testing.assert_array_equal(back.w, np.zeros(3))
    np.testing.assert_array_equal(back.v, np.ones(3))


def test_fields_of_other_names_are_never_matched_by_order(round_trip):
    with pytest.raises(eqx_serialise.CheckpointError, match=r"missing(.|\n)*unexpected"):
        round_trip(SAVED, Renamed(jnp.zeros(3), jnp.ones(3)))


THREE = [jnp.full(2, float(i)) for i in range(3)]


def test_a_smaller_skeleton_is_no_place_for_a_larger_file(round_trip):
    with pytest.raises(
        eqx_serialise.CheckpointError, match=r"unexpected, in the file alone \(2\):\n.*\[1\].*\n.*\[2\]"
    ):
        round_trip(THREE, THREE[:1])


def test_a_larger_skeleton_is_not_filled_from_a_smaller_file(round_trip):
    with pytest.raises(eqx_serialise.CheckpointError, match=r"missing, in `like` alone \(2\):\n.*\[1\].*\n.*\[2\]"):
        round_trip(THREE[:1], THREE)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_neither_is_it_with_files_without_names(tmp_path, count):
    eqx_serialise.tree_serialise_leaves(tmp_path / "three", THREE)
    expected = r"must end with the last leaf" if count < 3 else r"SequenceKey\(idx=3\),\), .* the end of the file"
    with pytest.raises(eqx_serialise.CheckpointError, match=expected):
        eqx_serialise.tree_deserialise_leaves(tmp_path / "three", [jnp.zeros(2)] * count)


DTYPES = {
    "key": jr.split(jr.key(7), 3),
    "rbg": jr.key(7, impl="rbg"),
    "float8": jnp.array([1.5, -0.0, 448], jnp.float8_e4m3fn),
    "bfloat16": jnp.array([1.5, -0.0], jnp.bfloat16),
    "int4": jnp.array([7, -8], jnp.int4),
    "(1, 1)": jnp.ones((1, 1)),
    "scalar": 1e-8,
    "float64": np.full(2, 1e-300),
}


def bits(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    array = np.asarray(jr.key_data(leaf) if is_key else leaf)
    return type(leaf), str(getattr(leaf, "dtype", "")), array.shape, array.tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_for_bit_and_the_skeleton_stays(name, round_trip):
    leaf = DTYPES[name]
    like = 0.0 if isinstance(leaf, float) else leaf[...].copy()
    skeleton = {"leaf": like}
    before = bits(like)
    assert bits(round_trip({"leaf": leaf}, skeleton)["leaf"]) == bits(leaf)
    assert skeleton["leaf"] is like
    assert bits(like) == before


def test_a_skeleton_of_numpy_arrays_is_not_written_into(saved):
    skeleton = {"w": np.zeros(64), "n": [0.5]}
    back = eqx_serialise.load(io.BytesIO(saved({"w": np.ones(64), "n": [1.5]})), skeleton)
    back["w"][:] = 7
    np.testing.assert_array_equal(skeleton["w"], np.zeros(64))
    assert skeleton["n"] == [0.5]


def test_nothing_found_is_an_error_even_if_not_strict(saved):
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        eqx_serialise.load(io.BytesIO(saved(SAVED)), {"x": jnp.ones(3)}, strict=False)
    assert "missing, in `like` alone (1)" in str(error.value)
    assert "strict=False" not in str(error.value)


def test_what_is_not_strict_is_still_no_cast_and_no_reshape(saved):
    for like in [Saved(jnp.zeros((3, 1)), jnp.ones(3)), Saved(jnp.zeros(3, int), jnp.ones(3)), Saved(0.5, jnp.ones(3))]:
        with pytest.raises(eqx_serialise.CheckpointError, match="of another"):
            eqx_serialise.load(io.BytesIO(saved(SAVED)), like, strict=False)


def test_what_is_not_strict_keeps_and_leaves_on_purpose(saved):
    class Other(eqx_core.Module):
        v: jax.Array
        new: jax.Array
        shape: object
        size: int = eqx_core.field(static=True, default=3)

    like = Other(jnp.zeros(3), jnp.full(2, 5.0), jax.ShapeDtypeStruct((2,), jnp.float32))
    back = eqx_serialise.load(io.BytesIO(saved(SAVED)), like, strict=False)
    np.testing.assert_array_equal(back.v, np.ones(3))
    assert back.new is like.new
    assert back.shape is like.shape
