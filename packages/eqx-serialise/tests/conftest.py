"""What every test of saving and loading does."""

import io

import pytest

import eqx_serialise


def _saved(tree, **kwargs):
    file = io.BytesIO()
    eqx_serialise.save(file, tree, **kwargs)
    return file.getvalue()


@pytest.fixture(scope="session")
def saved():
    """Return the bytes of a checkpoint."""
    return _saved


@pytest.fixture(scope="session")
def round_trip():
    """Save a tree and load it again, into its own shape or that of `like`."""
    return lambda tree, *like: eqx_serialise.load(io.BytesIO(_saved(tree)), *(like or (tree,)))
