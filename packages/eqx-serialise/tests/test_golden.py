"""The file of format version 1 that is kept here loads for ever. Never write it anew: add one for a new version."""

import hashlib
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np

import eqx_core
import eqx_serialise

GOLDEN = Path(__file__).with_name("golden_v1.safetensors")
NAMES = ["bool", "float16", "float32", "float64", "bfloat16", "complex64", "complex128"]
NAMES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)]
NAMES += [f"float8_{x}" for x in ["e3m4", "e4m3", "e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu"]]
NAMES += ["float4_e2m1fn", "float6_e2m3fn", "float6_e3m2fn"]


class Linear(eqx_core.Module):
    weight: jax.Array
    bias: jax.Array | None
    activation: object
    size: int = eqx_core.field(static=True, default=2)
    shape: tuple = eqx_core.field(static=True, default=(1, (2.5, "x", None)))


class Versioned(eqx_core.Module):
    __schema__ = 3
    x: jax.Array


def numpy_array(name):
    """Return four numbers of a dtype, NaN and -0.0 among them where there are such."""
    numbers = [1.5, -0.0, np.nan, 2.0] if "float" in name or "complex" in name else [0, 1, 1, 0]
    numbers = [1.0, 2.0, np.nan, 0.5] if name == "float8_e8m0fnu" else numbers
    numbers = [1.5, -0.0, 0.5, 2.0] if name.startswith(("float4", "float6")) else numbers
    return np.array(numbers).astype(np.dtype(name)).reshape(2, 2)


def weak_scalar():
    with jax.enable_x64(False):
        return jnp.asarray(1.0)


def tree():
    return {
        "numpy": {name: numpy_array(name) for name in NAMES},
        "model": Linear(jnp.arange(6, dtype=jnp.float32).reshape(3, 2), None, jax.nn.relu),
        "versioned": [Versioned(jnp.arange(16, dtype=jnp.float32))],
        "keys": {
            impl: jr.wrap_key_data(jnp.arange(n, dtype=jnp.uint32), impl=impl)
            for impl, n in {"threefry2x32": 2, "rbg": 4, "unsafe_rbg": 4}.items()
        },
        "odd": (np.zeros((0, 3), np.float32), np.float32(0.25), weak_scalar(), np.arange(3, dtype=">i4")),
        "values": [True, -1, 2**70, 0.1, -0.0, float("inf"), 1 - 2j, "text\n\N{GREEK SMALL LETTER OMEGA}"],
        "a.b['c']": jnp.ones(1, jnp.float32),
        "empty": [(), {}, None],
    }


def bits(leaf):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return bits(jr.key_data(leaf))
    if hasattr(leaf, "dtype"):
        array = np.asarray(leaf)
        return type(leaf).__name__, array.dtype.str, array.shape, array.tobytes()
    return type(leaf), repr(leaf)


def test_it_is_the_file_that_was_committed():
    digest = "8399b47530096b3b1741c23b45d333e31ff815bf5f4c1fac05ba0214ea62fcb9"
    assert hashlib.sha256(GOLDEN.read_bytes()).hexdigest() == digest


def test_it_loads_bit_for_bit():
    expected = tree()
    loaded = eqx_serialise.load(GOLDEN, expected)
    assert jtu.tree_structure(loaded) == jtu.tree_structure(expected)
    assert [bits(x) for x in jtu.tree_leaves(loaded) if not callable(x)] == [
        bits(x) for x in jtu.tree_leaves(expected) if not callable(x)
    ]
    mapped = eqx_serialise.load(GOLDEN, expected, mmap=True)
    assert eqx_core.tree_equal(mapped["model"], expected["model"])


def test_what_it_says_of_itself_is_still_understood():
    contents = eqx_serialise.verify(GOLDEN)
    assert contents.version == 1
    assert contents.metadata == {"step": "1000", "note": "kept for ever"}
    assert contents.classes["['versioned'][0]"].schema == 3
    assert contents.classes["['model']"].cls == "Linear"
    assert contents.static["['model'].activation"] == {"function": "relu"}
    shape = {"tuple": [{"int": 1}, {"tuple": [{"float": "2.5"}, {"str": "x"}, {"none": True}]}]}
    assert contents.static["['model'].shape"] == shape


def test_what_is_written_today_is_the_same(tmp_path):
    eqx_serialise.save(tmp_path / "today", tree(), metadata=eqx_serialise.inspect(GOLDEN).metadata)
    assert repr(eqx_serialise.diff(GOLDEN, tmp_path / "today")) == "The same is in both."
