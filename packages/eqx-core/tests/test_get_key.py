"""GetKey gives the keys `fold_in(PRNGKey(seed), 1)`, `fold_in(PRNGKey(seed), 2)`, and so on."""

import jax
import jax.random as jr
import numpy as np
import pytest

from eqx_core.internal import GetKey


@pytest.fixture(autouse=True)
def _no_seed_in_the_environment(monkeypatch):
    monkeypatch.delenv("EQX_GETKEY_SEED", raising=False)


def test_the_nth_key_is_fold_in_of_n():
    get_key = GetKey(3)
    for n in (1, 2, 3):
        np.testing.assert_array_equal(get_key(), jr.fold_in(jr.PRNGKey(3), n))


def test_two_of_one_seed_agree_and_are_still_unequal():
    first, second = GetKey(7), GetKey(7)
    np.testing.assert_array_equal(first(), second())
    assert first == first
    assert first != second
    assert hash(first) != hash(second)


def test_without_a_seed_it_is_random():
    assert len({GetKey().seed for _ in range(3)}) > 1


def test_the_environment_gives_the_seed_unless_it_is_given(monkeypatch):
    monkeypatch.setenv("EQX_GETKEY_SEED", "11")
    assert GetKey().seed == 11
    assert GetKey(3).seed == 3
    np.testing.assert_array_equal(GetKey()(), jr.fold_in(jr.PRNGKey(11), 1))


def test_an_environment_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setenv("EQX_GETKEY_SEED", "eleven")
    with pytest.raises(
        ValueError,
        match=r"integer in the environment variable EQX_GETKEY_SEED; got 'eleven'. Set it",
    ):
        GetKey()


@pytest.mark.parametrize("seed", ["1", 1.0, True])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(TypeError, match=rf"`GetKey\(seed=...\)` must be an integer; got `{type(seed).__name__}`"):
        GetKey(seed)


def test_repr_shows_seed_calls_and_key():
    get_key = GetKey(3)
    assert repr(get_key) == "GetKey(seed=3, call=0, key=Array([0, 3], dtype=uint32))"
    get_key()
    assert "call=1" in repr(get_key)


def test_it_works_under_jit():
    get_key = GetKey(5)
    np.testing.assert_array_equal(jax.jit(lambda: get_key())(), jr.fold_in(jr.PRNGKey(5), 1))


def test_keys_are_those_of_equinox():
    theirs = pytest.importorskip("equinox.internal").GetKey(9)
    ours = GetKey(9)
    for _ in range(2):
        np.testing.assert_array_equal(ours(), theirs())
