"""How `filter_tree` is read: one tree for each argument, or the tree itself for the only one."""

import numpy as np
import pytest

import eqx_filter._filter_of_inputs

passed, places = eqx_filter._filter_of_inputs.passed, eqx_filter._filter_of_inputs.places

ONE = {
    "a tree": ({"a": True, "b": (False, True)}, {"a": 1, "b": (2, 3)}, {"a": True, "b": (False, True)}),
    "an upper part": ({"a": True, "b": False}, {"a": 1, "b": (2, 3)}, {"a": True, "b": (False, False)}),
    "one bool": (True, [1, 2], [True, True]),
    "a tuple of one tree": (([True, False],), [1, 2], [True, False]),
    "a tuple that is the tree": ((True, False), (1, 2), (True, False)),
    "a tuple of one that may be either": ((True,), ((1, 2),), ((True, True),)),
    "bools of numpy": ([np.True_, np.False_], [1, 2], [True, False]),
    "none in the tree": ([True, None], [1, None], [True, None]),
}


@pytest.mark.parametrize("case", ONE)
def test_of_one_argument(case):
    tree, arg, expected = ONE[case]
    assert passed("jitf", None, tree, (arg,)) == (expected,)


def test_of_two_arguments():
    assert passed("jitf", None, ([True, False], False), ([1, 2], (3, 4))) == ([True, False], (False, False))
    with pytest.raises(ValueError, match="must have the structure"):
        passed("jitf", None, [True, False], ([1, 2], 3))


def test_none_is_no_bool():
    with pytest.raises(TypeError, match="must consist of bools; got None"):
        passed("jitf", None, [True, None], ([1, 2],))


def test_places_count_from_either_end():
    assert places("f", 0, 2) == (0,)
    assert places("f", (-1, 0), 2) == (1, 0)
    with pytest.raises(TypeError):
        places("f", 1.5, 2)
