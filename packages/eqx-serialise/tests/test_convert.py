"""An `.eqx` file and a model make a checkpoint."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_serialise

MODEL = {
    "w": jnp.arange(6.0).reshape(2, 3),
    "h": jnp.ones(2, jnp.bfloat16),
    "n": np.arange(3),
    "rate": 1e-8,
    "f": jax.nn.relu,
}
LIKE = {"w": jnp.zeros((2, 3)), "h": jnp.zeros(2, jnp.bfloat16), "n": np.zeros(3, int), "rate": 0.0, "f": jax.nn.relu}


@pytest.mark.parametrize("abstract", [False, True])
def test_the_checkpoint_holds_what_the_old_file_held(tmp_path, abstract):
    eqx_serialise.tree_serialise_leaves(tmp_path / "old", MODEL)
    like = LIKE | {name: jax.eval_shape(lambda x=LIKE[name]: x) for name in "wh"} if abstract else LIKE
    eqx_serialise.convert(tmp_path / "old.eqx", like, tmp_path / "new", metadata={"from": "old"})
    loaded = eqx_serialise.load(tmp_path / "new", LIKE)
    for name in "whn":
        np.testing.assert_array_equal(loaded[name], MODEL[name])
    assert loaded["rate"] == 1e-8
    assert eqx_serialise.inspect(tmp_path / "new").metadata == {"from": "old"}


def test_what_equinox_wrote_is_converted(tmp_path):
    equinox = pytest.importorskip("equinox")
    equinox.tree_serialise_leaves(tmp_path / "old.eqx", MODEL)
    eqx_serialise.convert(tmp_path / "old.eqx", LIKE, tmp_path / "new")
    np.testing.assert_array_equal(eqx_serialise.load(tmp_path / "new", LIKE)["w"], MODEL["w"])


def test_a_file_that_does_not_fit_leaves_the_target_alone(tmp_path):
    eqx_serialise.tree_serialise_leaves(tmp_path / "old", [1.0, 2.0])
    (tmp_path / "new").write_bytes(b"kept")
    with pytest.raises(eqx_serialise.CheckpointError, match="got more from byte 136 on"):
        eqx_serialise.convert(tmp_path / "old", [1.0], tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"kept"


def test_a_reader_of_leaves_of_ones_own_can_be_given():
    old, new = io.BytesIO(b"\5"), io.BytesIO()
    eqx_serialise.convert(old, [0], new, filter_spec=lambda file, leaf: file.read(1)[0])
    new.seek(0)
    assert eqx_serialise.load(new, [0]) == [5]
