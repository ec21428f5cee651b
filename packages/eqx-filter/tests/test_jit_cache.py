import functools
import gc
import threading
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_jit


class Model(eqx_core.Module):
    weight: Any
    flag: Any = None
    option: Any = eqx_core.field(static=True, default=None)

    def method(self, x):
        return self.weight * x


class Counted:
    """A function of anything that counts how often it is traced."""

    def __init__(self):
        self.traces = 0

        def fun(*args, **kwargs):
            self.traces += 1
            return args, kwargs

        self.jitted = filter_jit(fun)


def traces(*calls):
    counted = Counted()
    for args in calls:
        counted.jitted(*args)
    return counted.traces


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"a": [x]}, lambda x: Model(x), lambda x: Model(1, option=x)])
@pytest.mark.parametrize(
    "values", [(1, 1.0, True, 1 + 0j), (0.0, -0.0, 0, False), ("a", b"a"), (float("nan"), 1.0), ((1,), (True,))]
)
def test_static_values_are_compared_with_their_types(wrap, values):
    counted = Counted()
    for _ in range(2):
        for value in values:
            assert repr(counted.jitted(wrap(value))[0][0]) == repr(wrap(value))
    assert counted.traces == len(values)


def test_a_scalar_made_an_array_has_its_own_dtype():
    f = filter_jit(jnp.asarray)
    assert [f(x).dtype for x in (1, 1.0, True)] == [jnp.int32, jnp.float32, jnp.bool_]
    flag = filter_jit(lambda flag: "on" if flag is True else "off")
    assert [flag(1), flag(True), flag(1.0)] == ["off", "on", "off"]
    divide = filter_jit(lambda x, by: x / by)
    assert [float(divide(jnp.array(1.0), by)) for by in (0.0, -0.0)] == [np.inf, -np.inf]


def test_equal_static_values_share_a_trace():
    assert traces((float("nan"),), (float("nan"),), (np.nan,)) == 1
    assert traces((frozenset({1, 2}),), (frozenset({2, 1}),)) == 1
    assert traces((Model(1, option={"a": 1}),), (Model(1, option={"a": 1}),)) == 1
    assert traces((jax.ShapeDtypeStruct((2,), jnp.int32),), (jax.ShapeDtypeStruct((2,), jnp.int32),)) == 1
    assert traces(("a",), ("b",), ("a",)) == 2
    assert traces(([1],), ((1,),)) == 2


def test_arrays_of_one_shape_share_a_trace():
    assert traces((jnp.ones(2),), (jnp.zeros(2),)) == 1
    assert traces((jnp.ones(2),), (np.ones(2, np.float32),), (jnp.ones(2),)) == 1
    assert traces((jnp.ones(2),), (jnp.ones(3),), (jnp.ones(2, jnp.int32),)) == 3
    weak = jnp.array(1.0)
    assert weak.weak_type
    assert traces((weak,), (jnp.float32(1.0),), (weak + 1,), (np.float32(2),)) == 2


def test_calls_by_name_and_by_position_share_a_trace():
    count = 0

    @filter_jit
    def f(x, y=2, *, z=3):
        nonlocal count
        count += 1
        return x * y * z

    assert f(1.0) == f(x=1.0) == 6
    assert count == 1
    assert f(1.0, 2) == f(y=2, x=1.0) == f(1.0, y=2) == 6
    assert count == 2
    assert f(x=1.0, z=3) == f(1.0, z=3)
    assert count == 3


def test_wrapping_twice_is_wrapping_once():
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return jnp.sum(x)

    for wrap in (
        lambda: filter_jit(f),
        lambda: filter_jit(filter_jit(f)),
        lambda: filter_jit(eqx_filter.filter_grad(f)),
        lambda: filter_jit(eqx_filter.filter_vmap(f)),
        lambda: filter_jit(filter_jit(f), donate="none", inline=True),
    ):
        wrap()(jnp.ones(2))
        before = count
        wrap()(jnp.ones(2))
        assert count == before


def test_functions_that_differ_are_traced_each():
    def make(n):
        return lambda x: x + n

    assert [filter_jit(make(n))(jnp.array(0.0)) for n in range(3)] == [0, 1, 2]
    both = filter_jit(lambda f, x: f(x))
    assert [both(make(n), jnp.array(0.0)) for n in range(3)] == [0, 1, 2]


def test_bound_methods_that_differ_in_arrays_share_a_trace():
    count = 0

    class Counting(Model):
        def method(self, x):
            nonlocal count
            count += 1
            return self.weight * x

    for weight in (1.0, 2.0):
        assert filter_jit(Counting(jnp.array(weight)).method)(jnp.array(3.0)) == 3 * weight
    assert count == 1
    filter_jit(Counting(jnp.array(1.0), "other").method)(jnp.array(3.0))
    assert count == 2


def test_a_trace_inside_and_one_outside_of_jit_are_shared():
    counted = Counted()
    inside = jax.jit(lambda x: counted.jitted(x)[0][0])
    counted.jitted(jnp.ones(2))
    inside(jnp.ones(2))
    inside(jnp.ones(2))
    assert counted.traces == 1


def test_the_cache_lives_as_long_as_the_function():
    class Big:
        pass

    def make():
        big = Big()
        return (lambda x: (x + 1, big)[0]), weakref.ref(big)

    for wrap in (filter_jit, lambda f: filter_jit(filter_jit(f)), lambda f: filter_jit(functools.partial(f))):
        f, big = make()
        jitted = wrap(f)
        jitted(jnp.ones(2))
        jitted(1.0)
        del f, jitted
        gc.collect()
        assert big() is None


def test_a_cache_does_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(eqx_filter._jit_cache, "_LIMIT", 3)
    counted = Counted()
    for i in [*range(5), *range(5)]:
        assert counted.jitted(i)[0] == (i,)
        assert counted.jitted(*range(i))[0] == tuple(range(i))
    cache = counted.jitted._cache
    assert len(cache._plans) <= 3
    assert all(len(programs) <= 3 for programs in cache._programs.values())


def test_clearing_the_caches_traces_anew():
    counted = Counted()
    model = Model(jnp.ones(1))
    for n in (1, 2):
        counted.jitted(jnp.ones(1))
        counted.jitted(jnp.ones(1))
        filter_jit(model.method)(jnp.ones(1))
        assert counted.traces == n
        eqx_core.clear_caches()


def test_threads_may_call_at_once():
    counted = Counted()
    barrier = threading.Barrier(4)
    wrong = []

    def run(n):
        barrier.wait()
        for i in range(60):
            (x, m), _ = counted.jitted(jnp.full((2,), n), i % 3)
            if m != i % 3 or x.tolist() != [n, n]:
                wrong.append((n, i))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(counted.jitted._cache._programs) == 1


def test_a_program_is_made_for_each_choice_of_options():
    def f(x):
        return x + 1

    donating, plain = filter_jit(f, donate="all"), filter_jit(f)
    x = jnp.ones(3)
    plain(x)
    assert not x.is_deleted()
    donating(x)
    assert x.is_deleted()


def test_changed_containers_are_seen():
    model = Model([jnp.ones(1), 1])
    jitted = filter_jit(lambda model: model.weight)
    assert len(jitted(model)) == 2
    model.weight.append("a")
    assert jitted(model)[2] == "a"
    bound = filter_jit(model.method)
    with pytest.raises(TypeError):
        bound(jnp.ones(1))


def test_names_of_wrapped_functions_may_lie():
    def f(x):
        return x

    @functools.wraps(f)
    def by_name_alone(**kwargs):
        return kwargs["x"]

    assert filter_jit(by_name_alone)(x=3) == 3
