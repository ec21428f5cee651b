"""`error_if`, `branched_error_if`: when a check fails, what it says, and that nothing else changes."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_filter
from eqx_filter import EquinoxRuntimeError, branched_error_if, error_if, filter_jit
from eqx_filter.internal import nondifferentiable_backward

PLAIN_JIT_ERROR = (ValueError, RuntimeError)


def positive(x):
    return error_if(x, x <= 0, "not positive") ** 2 + 1


def running_sum(x):
    return jax.lax.scan(lambda total, each: (total + positive(each), None), jnp.zeros(()), x)[0]


NESTINGS = {
    "eager": (positive, ()),
    "filter_jit": (filter_jit(positive), ()),
    "jit of filter_jit": (filter_jit(jax.jit(filter_jit(positive))), ()),
    "vmap": (jax.vmap(positive), (3,)),
    "filter_jit of vmap": (filter_jit(jax.vmap(positive)), (3,)),
    "vmap of filter_jit": (jax.vmap(filter_jit(positive)), (3,)),
    "filter_jit of vmap of vmap": (filter_jit(jax.vmap(jax.vmap(positive))), (2, 2)),
    "grad": (jax.grad(positive), ()),
    "filter_jit of grad": (filter_jit(jax.grad(positive)), ()),
    "grad of filter_jit": (jax.grad(filter_jit(positive)), ()),
    "vmap of grad": (filter_jit(jax.vmap(jax.grad(positive))), (3,)),
    "scan": (filter_jit(running_sum), (3,)),
    "grad of scan": (filter_jit(jax.grad(running_sum)), (3,)),
    "checkpoint": (filter_jit(jax.grad(jax.checkpoint(positive))), ()),
    "jvp": (filter_jit(lambda x: jax.jvp(positive, (x,), (x,))[1]), ()),
    "cond": (filter_jit(lambda x: jax.lax.cond(x < 9, positive, lambda x: x, x)), ()),
    "while": (filter_jit(lambda x: jax.lax.while_loop(lambda y: jnp.any(y < 8), positive, x)), ()),
}


@pytest.mark.parametrize("nesting", NESTINGS)
def test_a_bad_value_raises_whatever_came_before_and_nothing_is_logged(nesting, caplog):
    fun, shape = NESTINGS[nesting]
    good = jnp.ones(shape)
    bad = good.at[(-1,) * len(shape)].set(-1.0)
    expected = fun(good)
    for _ in range(2):
        with pytest.raises(EquinoxRuntimeError, match="not positive"):
            fun(bad)
        np.testing.assert_array_equal(fun(good), expected)
    assert caplog.records == []


PLAIN = {
    "jit": jax.jit(positive),
    "vmap": jax.jit(jax.vmap(jax.vmap(positive))),
    "grad": jax.jit(jax.grad(lambda x: jnp.sum(positive(x)))),
    "scan": jax.jit(lambda x: jax.lax.scan(lambda _, each: (None, positive(each)), None, x)[1]),
}


@pytest.mark.parametrize("nesting", PLAIN)
def test_plain_jit_raises_with_the_message_and_a_hint(nesting, caplog):
    fun, shape = PLAIN[nesting], (2, 2)
    for _ in range(2):
        np.testing.assert_array_equal(fun(jnp.ones(shape)), 2 * np.ones(shape))
        with pytest.raises(PLAIN_JIT_ERROR, match=r"(?s)_EquinoxRuntimeError: .*not positive.*filter_jit"):
            fun(-jnp.ones(shape))
    assert caplog.records == []


def test_each_entry_of_a_batch_that_failed_is_named():
    fun = filter_jit(jax.vmap(jax.vmap(lambda x: error_if(x, x < 0, "negative"))))
    x = jnp.ones((2, 3)).at[0, 1].set(-1.0).at[1, 2].set(-1.0)
    with pytest.raises(EquinoxRuntimeError) as caught:
        fun(x)
    text = "Batch index (0, 1) had error:\nnegative\n\nBatch index (1, 2) had error:\nnegative\n\n"
    assert f"EquinoxRuntimeError: {text}" in str(caught.value)


LOOPS = {
    "scan": lambda x: jax.lax.scan(lambda _, y: (None, positive(y)), None, x[None])[1][0],
    "cond": lambda x: jax.lax.cond(x.shape == (), positive, lambda y: y, x),
    "traced cond": lambda x: jax.lax.cond(x < 9, positive, lambda y: y, x),
    "while": lambda x: jax.lax.while_loop(lambda c: c[0] < 1, lambda c: (c[0] + 1, positive(c[1])), (0, x))[1],
    "traced while": lambda x: jax.lax.while_loop(lambda y: y < 2, positive, x),
    "fori": lambda x: jax.lax.fori_loop(0, 1, lambda _, y: positive(y), x),
    "checkpoint": jax.checkpoint(positive),
    "grad": jax.grad(positive),
}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_batch_of_loops_and_branches_names_the_entries_too(loop):
    fun = filter_jit(jax.vmap(jax.vmap(LOOPS[loop])))
    np.testing.assert_array_equal(fun(jnp.ones((2, 3))), 2 * np.ones((2, 3)))
    with pytest.raises(EquinoxRuntimeError) as caught:
        fun(jnp.ones((2, 3)).at[1, 2].set(-1.0))
    assert "EquinoxRuntimeError: Batch index (1, 2) had error:\nnot positive\n\n---" in str(caught.value)
    with pytest.raises(EquinoxRuntimeError) as caught:
        filter_jit(jax.vmap(LOOPS[loop]))(jnp.array([-1.0, 1.0]))
    assert "EquinoxRuntimeError: Batch index (0,) had error:\nnot positive\n\n---" in str(caught.value)


def test_an_unbatched_check_names_no_entry_also_beside_a_batch():
    fun = filter_jit(jax.vmap(lambda x, y: error_if(x, y < 0, "negative"), in_axes=(0, None)))
    np.testing.assert_array_equal(fun(jnp.arange(3), jnp.array(1)), np.arange(3))
    with pytest.raises(EquinoxRuntimeError) as caught:
        fun(jnp.arange(3), jnp.array(-1))
    assert "EquinoxRuntimeError: negative\n" in str(caught.value)
    assert "Batch index" not in str(caught.value)


def test_the_message_holds_the_values_of_the_entry_that_failed():
    def fun(x, name):
        return error_if(x, x.sum() < 0, "{name}: sum {total:.1f} of {x_}", total=x.sum(), x_=x, name=name)

    batched = filter_jit(lambda x: jax.vmap(lambda row: fun(row, "rows"))(x))
    with pytest.raises(EquinoxRuntimeError, match=re.escape("(1,) had error:\nrows: sum -3.0 of [-1., -2.]\n")):
        batched(jnp.array([[1.0, 2.0], [-1.0, -2.0]]))
    with pytest.raises(EquinoxRuntimeError, match=re.escape("rows: sum -2.0 of [-1., -1.]")):
        fun(-jnp.ones(2), "rows")


def test_large_values_are_shown_by_their_type_and_keys_by_their_data():
    with pytest.raises(EquinoxRuntimeError, match=re.escape("got float32[100,2]")):
        filter_jit(lambda x: error_if(x, x[0, 0] < 0, "got {x_}", x_=x))(-jnp.ones((100, 2)))
    with pytest.raises(EquinoxRuntimeError, match=re.escape("key [0, 7]")):
        filter_jit(lambda key: error_if(key, jr.bits(key) >= 0, "key {key}", key=key))(jr.key(7))


def test_braces_are_literal_without_values():
    with pytest.raises(EquinoxRuntimeError, match=re.escape("{x} {")):
        error_if(jnp.ones(()), jnp.array(True), "{x} {")


def test_a_name_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"`error_if\(msg=...\)` must name only values that are given; got {x}"):
        error_if(jnp.ones(()), jnp.array(False), "{x} {y}", y=1)


@pytest.mark.parametrize("compile_it", [lambda f: f, filter_jit], ids=["eager", "jit"])
def test_the_index_selects_the_message(compile_it):
    fun = compile_it(lambda x, i: branched_error_if(x, x < 0, i, ["first", "second"]))
    assert fun(jnp.ones(()), jnp.array(1)) == 1
    for i, text in enumerate(["first", "second"]):
        with pytest.raises(EquinoxRuntimeError, match=f"EquinoxRuntimeError: {text}\n"):
            fun(-jnp.ones(()), jnp.array(i))
    with pytest.raises(EquinoxRuntimeError, match="index 2, for which"):
        fun(-jnp.ones(()), jnp.array(2))


def test_the_index_may_be_batched():
    fun = filter_jit(jax.vmap(lambda x, i: branched_error_if(x, x < 0, i, ["first", "second"])))
    with pytest.raises(EquinoxRuntimeError) as caught:
        fun(-jnp.ones(2), jnp.array([1, 0]))
    assert "Batch index (0,) had error:\nsecond\n\nBatch index (1,) had error:\nfirst\n" in str(caught.value)


def test_of_several_preds_any_and_of_several_indices_the_largest_counts():
    with pytest.raises(EquinoxRuntimeError, match="EquinoxRuntimeError: b\n"):
        filter_jit(lambda x: branched_error_if(x, x < 0, jnp.array([0, 1]), ["a", "b", "c"]))(jnp.array([1.0, -1.0]))


def test_an_index_without_a_message_is_refused():
    with pytest.raises(ValueError, match=r"`branched_error_if\(index=...\)` must be a place in `msgs`.*got 2"):
        branched_error_if(1, False, 2, ["a", "b"])


def test_without_arrays_it_is_decided_at_once_whatever_x_is():
    assert error_if("text", False, "bad") == "text"
    with pytest.raises(eqx_filter.EquinoxTracetimeError, match=r"^bad 3$"):
        error_if("text", True, "bad {n}", n=3)
    with pytest.raises(EquinoxRuntimeError, match=r"^bad(\n|$)"):
        filter_jit(lambda x: error_if(x, True, "bad"))(jnp.ones(()))


def test_a_check_that_is_known_to_pass_is_not_in_the_program():
    for pred in (False, np.zeros(3, bool), jnp.array(False)):
        jaxpr = jax.make_jaxpr(lambda x, pred=pred: error_if(x, pred, "bad"))(1.0)
        assert jaxpr.eqns == []
    passes = np.zeros(3, bool)
    mapped = jax.make_jaxpr(lambda x: jax.vmap(lambda x, p: error_if(x, p, "bad"))(x, passes))(jnp.ones(3))
    assert mapped.eqns == []


def test_a_check_that_is_not_used_is_not_made():
    def fun(x):
        error_if(x, x < 0, "unused")
        return x * 2

    assert filter_jit(fun)(jnp.array(-1.0)) == -2
    assert jax.jit(jax.vmap(fun))(-jnp.ones(1))[0] == -2


@pytest.mark.parametrize("value", [np.nan, np.int32(2**31 - 1), True, 0.0])
@pytest.mark.parametrize("checks", ["now", "late"])
def test_a_check_of_what_is_known_is_made_even_if_it_is_what_a_failure_gives(value, checks):
    fun = filter_jit(lambda x: error_if(jnp.full(2, value), x < 0, "bad"), checks=checks)

    def call(x):
        return fun(x), eqx_filter.wait()

    np.testing.assert_array_equal(call(jnp.array(1.0))[0], np.full(2, value))
    with pytest.raises(EquinoxRuntimeError, match="bad"):
        call(jnp.array(-1.0))


def test_there_must_be_an_array_to_hold_on_to():
    with pytest.raises(ValueError, match=r"`error_if\(x=...\)` must hold an array.*no arrays to thread the error on"):
        filter_jit(lambda pred: error_if(1.0, pred, "bad"))(jnp.array(False))


def test_all_else_in_x_is_returned_as_it_is():
    x = {"a": jnp.ones(2), "b": "text", "c": (None, 3, jr.key(0)), "d": np.arange(3)}
    out = error_if(x, jnp.array(False), "bad")
    assert out["b"] is x["b"]
    assert out["a"] is x["a"]
    out = filter_jit(lambda x, p: error_if(x, p, "bad"))(x, jnp.array(False))
    assert out["b"] == "text"
    assert out["c"][1] == 3
    assert out["c"][2] == x["c"][2]
    np.testing.assert_array_equal(out["d"], x["d"])


def test_an_unknown_mode_is_refused():
    with pytest.raises(RuntimeError, match=r"`error_if\(on_error=...\)` must be 'default' or one of.*got 'ignore'"):
        error_if(1.0, False, "bad", on_error="ignore")


@pytest.mark.parametrize("compile_it", [lambda f: f, jax.jit, filter_jit], ids=["eager", "jit", "filter_jit"])
def test_mode_nan_poisons_by_dtype(compile_it):
    x = {
        "f32": jnp.ones(2),
        "bf16": jnp.ones(2, jnp.bfloat16),
        "c64": jnp.ones(2, jnp.complex64),
        "i8": jnp.ones(2, jnp.int8),
        "u32": jnp.ones(2, jnp.uint32),
        "bool": jnp.zeros(2, bool),
    }
    fun = compile_it(lambda x, pred: error_if(x, pred, "bad", on_error="nan"))
    for name, leaf in fun(x, jnp.array(False)).items():
        np.testing.assert_array_equal(leaf, x[name])
    out = fun(x, jnp.array(True))
    assert all(np.isnan(out[name].astype(jnp.complex64)).all() for name in ("f32", "bf16", "c64"))
    assert out["i8"].tolist() == [127, 127]
    assert out["u32"].tolist() == [2**32 - 1] * 2
    assert out["bool"].tolist() == [True, True]
    assert all(out[name].dtype == x[name].dtype for name in x)


def test_mode_nan_poisons_the_whole_batch_and_keeps_what_is_no_array():
    fun = jax.vmap(lambda x: error_if((x, "text"), x < 0, "bad", on_error="nan")[0])
    assert np.isnan(jax.jit(fun)(jnp.array([1.0, -1.0]))).all()
    with pytest.warns(UserWarning, match="fails whatever the program is given"):
        x, text = error_if((jnp.ones(()), "text"), True, "bad", on_error="nan")
    assert jnp.isnan(x)
    assert text == "text"


def test_mode_off_puts_nothing_into_the_program():
    assert jax.make_jaxpr(lambda x: error_if(x, x < 0, "bad", on_error="off"))(1.0).eqns[1:] == []
    assert error_if("x", True, "bad", on_error="off") == "x"


def test_mode_breakpoint_stops_at_once_where_there_is_no_array(monkeypatch, capsys):
    stops = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stops.append("stop"))
    assert error_if("x", True, "bad", on_error="breakpoint") == "x"
    assert stops == ["stop"]
    assert "bad" in capsys.readouterr().out


def test_mode_breakpoint_stops_in_a_program_only_if_the_check_fails(monkeypatch, capsys):
    stops = []
    monkeypatch.setattr(jax.debug, "breakpoint", lambda **kwargs: jax.debug.callback(lambda: stops.append(kwargs)))
    fun = filter_jit(jax.vmap(lambda x: error_if(x, x < 0, "bad", on_error="breakpoint")))
    fun(jnp.ones(2))
    jax.effects_barrier()
    assert stops == []
    out = fun(jnp.array([1.0, -1.0]))
    jax.effects_barrier()
    assert stops == [{"num_frames": 1}]
    assert "A check failed: bad" in capsys.readouterr().out
    assert jnp.isnan(out).all()


def test_derivatives_pass_the_check_by():
    def fun(x):
        return jnp.sum(error_if(x, x[0] < 0, "bad") ** 2)

    x = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(jax.grad(fun)(x), 2 * x)
    np.testing.assert_array_equal(filter_jit(jax.hessian(fun))(x), 2 * np.eye(2))
    np.testing.assert_array_equal(jax.linear_transpose(lambda y: error_if(y, x[0] < 0, "bad") * 3, x)(x)[0], 3 * x)
    y, pushforward = jax.linearize(fun, x)
    assert (y, pushforward(x)) == (5, 10)


def test_symbolic_zeros_stay_symbolic():
    def fun(x, y):
        x, y = error_if((x, nondifferentiable_backward(y)), x < 0, "bad")
        return x * 2

    assert jax.grad(fun)(1.0, jnp.ones(())) == 2
    assert filter_jit(jax.grad(fun))(jnp.ones(()), jnp.ones(())) == 2


def test_jit_can_be_disabled():
    with jax.disable_jit(), pytest.raises(EquinoxRuntimeError, match="not positive"):
        filter_jit(positive)(jnp.array(-1.0))


def test_a_check_may_run_on_several_devices():
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices("cpu")[:2])
    x = jax.device_put(jnp.ones(4), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i")))
    fun = filter_jit(lambda x: error_if(x, jnp.any(x < 0), "not positive") * 2)
    np.testing.assert_array_equal(fun(x), 2 * np.ones(4))
    with pytest.raises(EquinoxRuntimeError, match="not positive"):
        fun(-x)


def test_each_device_may_check_its_own_part(caplog):
    mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices("cpu")[:2])
    spec = jax.sharding.PartitionSpec("i")
    mapped = filter_jit(jax.shard_map(positive, mesh=mesh, in_specs=spec, out_specs=spec))
    pmapped = eqx_filter.filter_pmap(positive)
    for fun, shape in ((mapped, (2,)), (pmapped, (2, 1))):
        good = jnp.ones(shape)
        np.testing.assert_array_equal(fun(good), 2 * good)
        with pytest.raises(EquinoxRuntimeError, match=r"(?s)^Above.*in positive\n.*not positive"):
            fun(good.at[1].set(-1.0))
        np.testing.assert_array_equal(fun(good), 2 * good)
    assert caplog.records == []


def test_large_arrays_pass_without_being_copied():
    fun = jax.jit(lambda x: error_if(x, x[0, 0] < 0, "bad").at[0, 0].add(1.0), donate_argnums=0)
    x = jnp.ones((512, 512))
    pointer = x.unsafe_buffer_pointer()
    assert fun(x).unsafe_buffer_pointer() == pointer
    compiled = fun.lower(jnp.ones((512, 512))).compile().as_text()
    assert not re.search(r"f32\[512,512\]\S* copy\(", compiled.split("ENTRY")[1])
