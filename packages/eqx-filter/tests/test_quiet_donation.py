import itertools
import threading
import warnings

import jax
import jax.numpy as jnp
import pytest

import eqx_core
from eqx_filter import filter_jit

UNUSABLE = "Some donated buffers were not usable"


class Scale(eqx_core.Module):
    weight: jax.Array
    name: str = "scale"

    def __call__(self, x):
        return self.weight * x, x + 1

    def method(self, x):
        return self.weight * x, x + 1

    @filter_jit(donate="all-except-first")
    def decorated(self, x):
        return self.weight * x, x + 1


def arrays(n):
    return [jnp.ones(3) for _ in range(n)]


ALL = {
    "none": (False, False, False),
    "all": (True, True, True),
    "warn": (True, True, True),
    "all-except-first": (False, True, True),
    "warn-except-first": (False, True, True),
}


@pytest.mark.parametrize("donate", ALL)
def test_the_arrays_of_the_mode_are_donated(donate):
    jitted = filter_jit(lambda x, y, *, z: (x + 1, y + 1, z + 1, "text"), donate=donate)
    for call in (jitted, lambda x, y, z: jitted(z=z, y=y, x=x)):
        given = arrays(3)
        out = call(given[0], given[1], z=given[2])
        assert tuple(x.is_deleted() for x in given) == ALL[donate]
        assert [x.tolist() for x in out[:3]] == [[2, 2, 2]] * 3


@pytest.mark.parametrize("donate", ALL)
def test_the_callables_own_arrays_are_donated_too(donate):
    for get in (lambda model: model, lambda model: model.method, lambda model: eqx_core.Partial(model)):
        weight, x = arrays(2)
        filter_jit(get(Scale(weight)), donate=donate)(x)
        assert weight.is_deleted() is (donate != "none")
        assert x.is_deleted() is ALL[donate][0]


def test_the_first_argument_of_a_decorated_method_is_self():
    weight, x = arrays(2)
    Scale(weight).decorated(x)
    assert (weight.is_deleted(), x.is_deleted()) == (False, True)


def test_without_arguments_by_position_all_are_donated():
    x, y = arrays(2)
    filter_jit(lambda *, x, y: (x + 1, y + 1), donate="all-except-first")(x=x, y=y)
    assert (x.is_deleted(), y.is_deleted()) == (True, True)


def test_the_memory_is_used_again():
    x = jnp.ones(1000)
    before = x.unsafe_buffer_pointer()
    assert filter_jit(lambda x: x + 1, donate="all")(x).unsafe_buffer_pointer() == before


@pytest.mark.parametrize("donate", ["warn", "warn-except-first"])
def test_the_warning_modes_warn_once(donate):
    jitted = filter_jit(lambda first, x: x.sum(), donate=donate)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            jitted(1, *arrays(1))
    assert [str(w.message).startswith(UNUSABLE) for w in caught] == [True]


@pytest.mark.parametrize("donate", ["all", "all-except-first"])
def test_the_other_modes_do_not_warn(donate):
    jitted = filter_jit(lambda first, x: x.sum(), donate=donate)
    filters = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (2, 3, 2):
            jitted(1, jnp.ones(n))
            jitted(1.0, jnp.ones(n))
        jitted.lower(1, jnp.ones(4)).compile()(1, jnp.ones(4))
        jitted.lower(1, jnp.ones(2)).compile()(1, jnp.ones(2))
        jax.jit(lambda x: jitted(1, x))(jnp.ones(2))
        jax.vmap(lambda x: jitted(1, x))(jnp.ones((2, 2)))
    assert caught == []
    assert warnings.filters == filters


def test_other_warnings_pass():
    def f(x):
        warnings.warn("text", stacklevel=1)
        return x.sum()

    with pytest.warns(UserWarning, match="text"):
        filter_jit(f, donate="all")(jnp.ones(2))


def test_a_failed_trace_leaves_warnings_as_they_were():
    filters = list(warnings.filters)
    with pytest.raises(ZeroDivisionError):
        filter_jit(lambda x: x / (1 // 0), donate="all")(jnp.ones(2))
    with pytest.raises(ZeroDivisionError):
        filter_jit(lambda x: x / (1 // 0), donate="all").lower(jnp.ones(2))
    assert warnings.filters == filters


def test_it_donates_inside_of_jax_transformations_as_jax_does():
    jitted = filter_jit(lambda x: x * 2, donate="all")
    x = jnp.ones(3)
    assert jax.jit(lambda x: jitted(x).sum())(x) == 6
    assert not x.is_deleted()
    assert jax.grad(lambda x: jitted(x * 1.0).sum())(x).tolist() == [2, 2, 2]


def test_threads_may_donate_at_once():
    jitted = filter_jit(lambda x, n: (x + n, x.sum()), donate="all")
    counter, wrong = itertools.count(), []

    def run():
        for _ in range(10):
            n = next(counter) % 4
            if jitted(jnp.ones(2), n)[0].tolist() != [1 + n, 1 + n]:
                wrong.append(n)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=run) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
