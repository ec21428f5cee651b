"""One error lists all that differs between the file and `like`."""

import io

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_serialise

TREE = {
    "same": jnp.ones(2),
    "only_in_file": jnp.ones((2, 3)),
    "shape": jnp.ones((2, 3)),
    "rank": jnp.ones((1, 1)),
    "dtype": jnp.ones(4),
    "kind": 0.5,
}
LIKE = {
    "same": jnp.ones(2),
    "only_in_like": jnp.ones(5, jnp.bfloat16),
    "shape": jnp.ones((3, 2)),
    "rank": jnp.ones((1,)),
    "dtype": jnp.ones(4, jnp.int32),
    "kind": jnp.ones(()),
}


def report(saved, tree, like):
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        eqx_serialise.load(io.BytesIO(saved(tree)), like)
    return str(error.value)


def test_one_report_lists_every_difference(saved):
    assert (
        report(saved, TREE, LIKE)
        == """\
`load(like=...)` must have the leaves of the file <BytesIO>; got differences:
  missing, in `like` alone (1):
    ['only_in_like']: bf16[5]
  unexpected, in the file alone (1):
    ['only_in_file']: f32[2,3]
  of another kind (1):
    ['kind']: Python float in the file, f32[] in `like`
  of another shape (2):
    ['rank']: f32[1,1] in the file, f32[1] in `like`
    ['shape']: f32[2,3] in the file, f32[3,2] in `like`
  of another dtype (1):
    ['dtype']: f32[4] in the file, i32[4] in `like`
Build `like` just as the saved model was built, and change the model after loading."""
    )


@pytest.mark.parametrize(
    ("tree", "like", "line"),
    [
        ([jnp.ones(1)], [], "unexpected, in the file alone (1):\n    [0]: f32[1]"),
        ([], [jnp.ones(1)], "missing, in `like` alone (1):\n    [0]: f32[1]"),
        ([1], [True], "[0]: Python int in the file, Python bool in `like`"),
        ([jnp.ones(1)], [None], "unexpected, in the file alone (1):\n    [0]: f32[1]"),
        ([jnp.ones(1)], [len], "unexpected, in the file alone (1):\n    [0]: f32[1]"),
        ([jr.key(0)], [jnp.ones(2, jnp.uint32)], "[0]: key<fry>[] in the file, u32[2] in `like`"),
        ([np.ones(1, ">f8")], [np.ones(1, "c16")], "[0]: f64[1] in the file, c128[1] in `like`"),
        ([jnp.ones(1, bool)], [jnp.ones(1, jnp.int8)], "[0]: bool[1] in the file, i8[1] in"),
    ],
)
def test_a_difference_is_named(saved, tree, like, line):
    assert line in report(saved, tree, like)


def test_a_long_list_is_cut(saved):
    text = report(saved, [jnp.ones(1)] * 100, [])
    assert "(100):" in text
    assert "... and 80 more" in text
    assert len(text.splitlines()) == 24


def test_nothing_is_cast_or_broadcast(saved):
    for like in [jnp.ones(3, jnp.float16), jnp.ones((1, 3)), jnp.ones(()), np.ones(3)]:
        report(saved, [jnp.ones(3)], [like])
