"""doc_repr and doc_remove_args do something only while documentation is generated."""

import inspect
import typing

import pytest

from eqx_core.internal import doc_remove_args, doc_repr


@pytest.fixture
def documenting(monkeypatch):
    monkeypatch.setattr(typing, "GENERATING_DOCUMENTATION", True, raising=False)


def make(decorate):
    @decorate
    def f(x, _hidden=1, *, y=2, _also=3):
        return x, _hidden, y, _also

    return f


def test_doc_repr_is_the_identity_outside_of_documentation():
    value = object()
    assert doc_repr(value, "something") is value


@pytest.mark.usefixtures("documenting")
def test_doc_repr_prints_as_the_string_in_documentation():
    assert repr(doc_repr(object(), "something")) == "something"
    assert str(doc_repr(len, "<function len>")) == "<function len>"


def test_doc_remove_args_is_the_identity_outside_of_documentation():
    plain = make(lambda fn: fn)
    decorate = doc_remove_args("_hidden", "_also")
    assert decorate(plain) is plain
    assert "_hidden" in inspect.signature(plain).parameters


@pytest.mark.usefixtures("documenting")
def test_doc_remove_args_hides_the_arguments_in_documentation():
    f = make(doc_remove_args("_hidden", "_also"))
    assert str(inspect.signature(f)) == "(x, *, y=2)"
    assert f(0, 5, _also=6) == (0, 5, 2, 6)
    assert f.__name__ == "f"
