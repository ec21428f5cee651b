"""The peer that layers are compared with, bit for bit, wherever it is installed."""

import dataclasses
import importlib.util
import warnings

import jax
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_nn


def _peer():
    if importlib.util.find_spec("equinox") is None:
        pytest.skip("equinox is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import equinox
    return equinox.nn


def _arrays(tree):
    """Return the array leaves by the path to each."""
    leaves = jtu.tree_flatten_with_path(tree)[0]
    return {jtu.keystr(path): np.asarray(leaf) for path, leaf in leaves if hasattr(leaf, "dtype")}


def _assert_same_arrays(ours, theirs):
    ours, theirs = _arrays(ours), _arrays(theirs)
    assert list(ours) == list(theirs)
    for path, leaf in ours.items():
        assert (leaf.shape, leaf.dtype) == (theirs[path].shape, theirs[path].dtype), path
        assert leaf.tobytes() == theirs[path].tobytes(), path


def _fields(layer):
    return [(f.name, bool(f.metadata.get("static", False))) for f in dataclasses.fields(layer)]


def _statics(layer):
    return {name: getattr(layer, name) for name, static in _fields(layer) if static}


@pytest.fixture
def peer():
    """The module `equinox.nn`; the test is skipped without it."""
    return _peer()


@pytest.fixture
def pair(peer):
    """A function that builds one layer twice, with us and with the peer, and compares all that they hold."""

    def build(name, *args, **kwargs):
        ours, theirs = getattr(eqx_nn, name)(*args, **kwargs), getattr(peer, name)(*args, **kwargs)
        assert _fields(ours) == _fields(theirs)
        assert _statics(ours) == _statics(theirs)
        _assert_same_arrays(ours, theirs)
        return ours, theirs

    return build


@pytest.fixture
def same_arrays():
    """A function that asserts that two PyTrees hold the same bits under the same paths."""
    return _assert_same_arrays


@pytest.fixture
def x64():
    """64-bit numbers, for one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


# Here the programs are compiled as users have them: for speed, memory, or to the last digit of another library.
_OPTIMISED = {
    "test_against_pytorch",
    "test_attention",
    "test_batch_norm",
    "test_chunked_attention",
    "test_layer_and_rms_norm",
}


@pytest.fixture(autouse=True, scope="module")
def _quickly_compiled(request):
    """Leave out XLA's optimisations, which would take half of the time of the suite, where the formula is what is tested."""
    quickly = request.path.stem not in _OPTIMISED
    jax.config.update("jax_disable_most_optimizations", quickly)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    if quickly:
        # JAX would hand these programs to the tests of other modules, whose last digits they would change.
        jax.clear_caches()
