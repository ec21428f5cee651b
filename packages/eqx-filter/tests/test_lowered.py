import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
from eqx_filter import filter_jit


class Scale(eqx_core.Module):
    weight: jax.Array
    power: int = 2

    def __call__(self, x):
        return (self.weight * x) ** self.power, "text", self

    @filter_jit
    def decorated(self, x):
        return self.weight * x


def f(model, x, flag=True, **named):
    return {"out": model(x)[0] if flag else x, "next": x + 1, "flag": flag, **named}


MODES = ["none", "all", "all-except-first", "warn", "warn-except-first"]


@pytest.mark.parametrize("donate", MODES)
def test_what_is_compiled_returns_what_the_call_returns(donate):
    jitted = filter_jit(f, donate=donate)

    def arguments():
        return (Scale(jnp.full(2, 3.0)), jnp.ones(2)), {"flag": True, "other": "text", "array": jnp.arange(2)}

    args, kwargs = arguments()
    compiled = jitted.lower(*args, **kwargs).compile()
    for _ in range(2):
        args, kwargs = arguments()
        out = compiled(*args, **kwargs)
        assert out["out"].tolist() == [9, 9]
        assert (out["flag"], out["other"], out["array"].tolist()) == (True, "text", [0, 1])


def test_structs_stand_for_arrays():
    struct = jax.ShapeDtypeStruct((2,), jnp.float32)
    compiled = filter_jit(f).lower(Scale(struct), struct, flag=True).compile()
    assert compiled(Scale(jnp.full(2, 2.0)), np.ones(2, np.float32), True)["out"].tolist() == [4, 4]


def test_arguments_may_be_given_by_name():
    compiled = filter_jit(f).lower(Scale(jnp.ones(2)), jnp.ones(2)).compile()
    assert compiled(x=jnp.full(2, 3.0), model=Scale(jnp.ones(2)))["out"].tolist() == [9, 9]


def test_modules_and_bound_methods_are_lowered():
    model = Scale(jnp.full(2, 2.0))
    out, text, same = filter_jit(model).lower(jnp.ones(2)).compile()(jnp.ones(2))
    assert (out.tolist(), text, same.power) == ([4, 4], "text", 2)
    assert Scale.decorated.lower(model, jnp.ones(2)).compile()(model, jnp.ones(2)).tolist() == [2, 2]


def test_lowering_and_calling_share_a_trace():
    traces = []
    jitted = filter_jit(lambda x, n: traces.append(n) or x * n)
    jitted(jnp.ones(2), 2)
    jitted.lower(jnp.ones(2), 2).compile()(jnp.ones(2), 2)
    assert traces == [2]


def test_the_program_can_be_read():
    lowered = filter_jit(f).lower(Scale(jnp.ones(2)), jnp.ones(2))
    assert "module @jit_f" in lowered.as_text()
    assert "HloModule jit_f" in lowered.as_text("hlo")
    assert "loc(" in lowered.as_text(debug_info=True)
    assert "HloModule jit_f" in lowered.compile().as_text()


def test_compiler_options_reach_the_compiler():
    lowered = filter_jit(f).lower(Scale(jnp.ones(2)), jnp.ones(2))
    compiled = lowered.compile(compiler_options={"xla_embed_ir_in_executable": True})
    assert compiled(Scale(jnp.ones(2)), jnp.ones(2))["flag"] is True
    with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_option"):
        lowered.compile({"no_such_option": True})


STATIC = [(2, 3), (2, True), (1, True), (1, 1.0), (0.0, -0.0), ("a", "b"), (2.0, "2.0")]


@pytest.mark.parametrize(("lowered", "called"), STATIC)
def test_another_static_value_is_refused(lowered, called):
    compiled = filter_jit(lambda x, y, m: (x, y)).lower(jnp.ones(1), lowered, {"a": lowered}).compile()
    assert compiled(jnp.ones(1), lowered, {"a": lowered})[1] == lowered
    with pytest.raises(ValueError, match=rf"{lowered!r} at `y`; got {called!r}. Lower and compile it for this one"):
        compiled(jnp.ones(1), called, {"a": lowered})
    with pytest.raises(ValueError, match=rf"at `m\['a'\]`; got {called!r}"):
        compiled(jnp.ones(1), lowered, {"a": called})


def test_equal_static_values_are_accepted():
    compiled = filter_jit(lambda x, y: (x, y)).lower(jnp.ones(1), float("nan")).compile()
    assert compiled(jnp.ones(1), float("nan"))[0] == 1
    compiled = filter_jit(lambda x, y: (x, y)).lower(jnp.ones(1), frozenset("ab")).compile()
    assert compiled(jnp.ones(1), frozenset("ba"))[1] == {"a", "b"}


def test_arguments_of_another_form_are_refused():
    compiled = filter_jit(lambda x, y: (x, y)).lower(jnp.ones(2), 1).compile()
    with pytest.raises(TypeError, match=r"lowered for, an array at `x`; got 1\.0"):
        compiled(1.0, 1)
    with pytest.raises(TypeError, match="lowered for, 1 at `y`; got an array"):
        compiled(jnp.ones(2), jnp.ones(2))
    with pytest.raises(TypeError, match=r"of the structure that it was lowered for, .*\(\*, \*\).*; got .*\(\*,\)"):
        compiled((jnp.ones(2),), 1)
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        compiled(jnp.ones(2))
    with pytest.raises(TypeError, match="missing a required argument: 'y'"):
        filter_jit(lambda x, y: (x, y)).lower(jnp.ones(2))
    with pytest.raises(TypeError, match="called with float32\\[3\\]"):
        compiled(jnp.ones(3), 1)
    with pytest.raises(ValueError, match="Non-hashable static arguments"):
        filter_jit(lambda x: x).lower({1})
