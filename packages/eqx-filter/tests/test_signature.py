import functools

import hypothesis.strategies as st
import pytest
from hypothesis import given

import eqx_core
import eqx_filter
from eqx_filter import filter_jit

Signature = eqx_filter._signature.Signature


def positional(a, b=2, c=3):
    return a, b, c


def everything(a, /, b, *rest, c=3, **named):
    return a, b, rest, c, named


class Model(eqx_core.Module):
    def __call__(self, a, b=2):
        return a, b

    def method(self, a, b=2):
        return a, b


FUNCTIONS = [
    positional,
    everything,
    Model(),
    Model().method,
    functools.partial(positional, b=5),
    filter_jit(positional),
    eqx_core.Partial(positional, 1),
    lambda **named: named,
    dict,
]
CALLS = st.tuples(
    st.lists(st.integers(), max_size=3).map(tuple), st.dictionaries(st.sampled_from("abcd"), st.integers(), max_size=3)
)


@given(st.sampled_from(FUNCTIONS), CALLS)
def test_arranged_arguments_mean_the_same(fun, call):
    args, kwargs = call
    signature = Signature(fun)
    try:
        expected = fun(*args, **kwargs)
    except TypeError:
        return
    for _ in range(2):
        new_args, new_kwargs = signature.arrange(args, kwargs)
        assert fun(*new_args, **new_kwargs) == expected
        assert signature.arrange(new_args, new_kwargs) == (new_args, new_kwargs)
        signature.check(new_args, new_kwargs)


def test_arguments_go_by_position_where_they_may():
    assert Signature(positional).arrange((), {"b": 1, "a": 2}) == ((2, 1), {})
    assert Signature(positional).arrange((), {"c": 1, "a": 2}) == ((2,), {"c": 1})
    assert Signature(everything).arrange((1,), {"d": 5, "b": 2}) == ((1, 2), {"d": 5})
    assert Signature(filter_jit(Model().method)).arrange((), {"a": 1}) == ((1,), {})


def test_wrong_arguments_are_refused():
    signature = Signature(positional)
    for _ in range(2):
        with pytest.raises(TypeError, match="missing a required argument: 'a'"):
            signature.arrange((), {"b": 1})
    with pytest.raises(TypeError, match="too many positional arguments"):
        signature.check((1, 2, 3, 4), {})


def test_callables_that_do_not_say_take_anything():
    assert Signature(dict).arrange((1,), {"z": 2}) == ((1,), {"z": 2})
    Signature(dict).check((1, 2, 3), {})
