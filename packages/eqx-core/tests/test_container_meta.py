"""ContainerMeta numbers the attributes of a class."""

import pytest

from eqx_core.internal import ContainerMeta


class Results(metaclass=ContainerMeta):
    """What became of it."""

    successful = ""
    diverged = "It diverged."


def test_attributes_are_numbered_in_order_and_give_back_their_values():
    assert (Results.successful, Results.diverged) == (0, 1)
    assert Results[0] == ""
    assert Results[Results.diverged] == "It diverged."
    assert len(Results) == 2
    assert list(Results) == ["", "It diverged."]
    assert Results.reverse_lookup == ["", "It diverged."]


def test_names_with_two_underscores_are_left_alone():
    assert Results.__doc__ == "What became of it."
    assert Results.__module__ == __name__


def test_a_number_that_is_not_there_is_an_index_error():
    with pytest.raises(IndexError):
        Results[2]


def test_a_subclass_goes_on_counting():
    class More(Results):
        stalled = "It stalled."

    assert (More.successful, More.stalled) == (0, 2)
    assert [More[i] for i in range(len(More))] == ["", "It diverged.", "It stalled."]
    assert len(Results) == 2


def test_two_numbered_parents_are_refused():
    class Other(metaclass=ContainerMeta):
        x = "x"

    with pytest.raises(TypeError, match=r"at most one class that is numbered already; got \['Results', 'Other'\]"):

        class Both(Results, Other):
            pass


def test_numbers_are_those_of_equinox():
    theirs = pytest.importorskip("equinox.internal").ContainerMeta("R", (), {"a": "x", "b": "y"})
    ours = ContainerMeta("R", (), {"a": "x", "b": "y"})
    assert (ours.a, ours.b, ours[1], len(ours)) == (theirs.a, theirs.b, theirs[1], len(theirs))
