"""The text of a check that failed, given what the program had in it."""

import numpy as np

import eqx_filter

batch_message, message = eqx_filter._check_message.batch_message, eqx_filter._check_message.message


def values_of(arrays):
    return dict(zip("ab", arrays, strict=False))


def test_values_are_formatted_by_kind():
    assert message(["{a:.2f} {b}"], 0, {"a": np.float32(0.5), "b": np.array([1, 2])}) == "0.50 [1, 2]"
    assert message(["{a} {b[k]}"], 0, {"a": np.zeros((9, 9), np.int8), "b": {"k": "text"}}) == "int8[9,9] text"


def test_axes_that_only_some_conditions_have_are_lined_up():
    pred = np.array([[True, False], [False, True]])
    text = batch_message(["m"], [(True, False), (True, False)], [pred, np.array(0)], values_of)
    assert text == "Batch index (0, 0) had error:\nm\n\nBatch index (1, 1) had error:\nm"
    # The outer axis is of the value alone, the inner one of both.
    conditions = [np.array([False, True]), np.array(0), np.array([[1, 2], [3, 4]])]
    text = batch_message(["got {a}"], [(False, False, True), (True, False, True)], conditions, values_of)
    assert text == "Batch index (0, 1) had error:\ngot 2\n\nBatch index (1, 1) had error:\ngot 4"


def test_a_large_batch_is_cut_short():
    text = batch_message(["m"], [(True, False)], [np.ones(250, bool), np.array(0)], values_of)
    assert text.count("Batch index") == 100
    assert text.endswith("\n\n150 more entries of the batch had errors.")
