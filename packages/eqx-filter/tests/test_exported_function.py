"""What `ExportedFunction` and `load_exported` refuse, and how they say so."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest

import eqx_core
from eqx_filter import filter_export, load_exported


class Linear(eqx_core.Module):
    weight: jax.Array  # f32[2, 3]
    activation: object
    size: object = eqx_core.field(static=True, default=3)

    def __call__(self, x, scale):
        return scale * self.activation(self.weight @ x)


MODEL, X = Linear(jnp.ones((2, 3)), jnp.tanh), jnp.ones(3)


@pytest.fixture(scope="module")
def exported():
    return filter_export(lambda model, x, scale: model(x, scale))(MODEL, X, 2.0)


@pytest.mark.parametrize(
    ("args", "kwargs", "got"),
    [
        ((MODEL, X), {}, r"got 2 by position and \[\] by name"),
        ((MODEL, X, 2.0, 1), {}, "got 4 by position"),
        ((MODEL, X), {"x": X}, r"got 2 by position and \['x'\] by name"),
        ((MODEL, X), {"scale": 2.0, "y": 1}, r"got 2 by position and \['scale', 'y'\] by name"),
    ],
)
def test_the_arguments_must_be_those_of_the_export(exported, args, kwargs, got):
    with pytest.raises(
        TypeError, match=rf"`ExportedFunction\(...\)` must get the arguments .*`model, x, scale`; {got}"
    ):
        exported(*args, **kwargs)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((Linear(MODEL.weight, jnp.sin), X, 2.0), r"got sin instead of tanh at `model\.activation`"),
        ((Linear(MODEL.weight, jnp.tanh, 4), X, 2.0), r"got 4 instead of 3 at `model\.size`"),
        ((MODEL, X, 3.0), r"got 3\.0 instead of 2\.0 at `scale`.*with `jnp.asarray\(...\)` there"),
        ((MODEL, X, 2), r"got 2 instead of 2\.0 at `scale`"),
        ((MODEL, X, jnp.float32(2)), r"got f32\[\] instead of 2\.0 at `scale`"),
        (({"weight": MODEL.weight}, X, 2.0), r"got nothing instead of tanh at `model\.activation`"),
        ((MODEL, [X, "more"], 2.0), r"got 'more' instead of nothing at `x\[1\]`"),
    ],
)
def test_what_is_no_array_must_be_the_same(exported, args, text):
    with pytest.raises(ValueError, match=rf"`ExportedFunction\(...\)` must get what is no array as it was .*{text}"):
        exported(*args)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ((MODEL, jnp.ones(4), 2.0), r"got f32\[4\] instead of f32\[3\] at `x`"),
        ((MODEL, jnp.ones(3, "int32"), 2.0), r"got i32\[3\] instead of f32\[3\] at `x`"),
        ((MODEL, jnp.ones((1, 3)), 2.0), r"got f32\[1,3\] instead of f32\[3\] at `x`"),
        ((MODEL, 1.0, 2.0), r"got f32\[\] instead of f32\[3\] at `x`"),
    ],
)
def test_arrays_must_have_the_same_kinds(exported, args, text):
    with pytest.raises(ValueError, match=rf"`ExportedFunction\(...\)` must get arrays of the shapes .*{text}"):
        exported(*args)


def test_a_number_stands_for_an_array_that_can_hold_it():
    exported = filter_export(lambda n: n * 2)(jnp.int32(1))
    assert (int(exported(3)), exported(True).dtype) == (6, "int32")
    with pytest.raises(ValueError, match=r"got 2\.5 instead of i32\[\] at `n`"):
        exported(2.5)


def test_there_must_be_the_same_arrays(exported):
    with pytest.raises(
        ValueError, match=r"must get just the arrays .*; got none for `x`, and some for `x\[0\]`, `x\[1\]`\."
    ):
        exported(MODEL, [X, X], 2.0)
    arrays = {f"x{i}": X for i in range(5)} | {"x": X}
    with pytest.raises(ValueError, match=r"none for `model.weight`, and some for `x0`, `x1`, `x2` and 2 more\."):
        exported.on_arrays(arrays)


@pytest.mark.parametrize("cut", [0, 5, 20, 100])
def test_bytes_must_be_whole(exported, cut):
    pytest.importorskip("flatbuffers")
    with pytest.raises(
        ValueError, match=rf"`load_exported\(data=...\)` must be what .* returned; got {cut} bytes of some"
    ):
        load_exported(exported.serialise()[:cut])


def test_bytes_must_be_ours():
    pytest.importorskip("flatbuffers")
    with pytest.raises(ValueError, match="got 1000 bytes of something else"):
        load_exported(b"x" * 1000)


def test_a_program_that_jax_does_not_read_names_the_versions(exported, monkeypatch):
    pytest.importorskip("flatbuffers")
    data = exported.serialise()

    def refuse(data):
        raise ValueError("unsupported serialization version 99")

    monkeypatch.setattr("jax.export.deserialize", refuse)
    version = jax.__version__
    with pytest.raises(ValueError, match=rf"this one, {version}, can read; got what {version} wrote.*ersion 99"):
        load_exported(data)


def test_without_flatbuffers_it_says_what_to_install(exported, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for call in (exported.serialise, lambda: load_exported(b"")):
        with pytest.raises(ImportError, match=r"must have the package flatbuffers.*pip install 'eqx-filter\[export\]'"):
            call()
    assert exported(MODEL, X, 2.0).shape == (2,)
