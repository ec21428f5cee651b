"""`explain_retrace` names what changed, by its path, whenever a function is traced or compiled again."""

import gc
import os
import subprocess
import sys
import textwrap
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_jit, jitf
from eqx_filter.debug import explain_retrace


class Model(eqx_core.Module):
    weight: object
    activation: object = jnp.tanh
    size: object = eqx_core.field(static=True, default=1)


def fun(x, n=0, **rest):
    return jax.tree.map(lambda leaf: leaf, x)


def reports(*calls, of=fun):
    """Return what is reported of calls, each a tuple of arguments or a dict of them."""
    texts = []
    explained = explain_retrace(filter_jit(of), report=texts.append)
    eqx_core.clear_caches()
    for call in calls:
        explained(**call) if isinstance(call, dict) else explained(*call)
    return texts


HEAD = "`fun` is traced again, for the 2nd time. Since the most similar call:\n  "
ONE = jnp.ones(2)

CHANGES = {
    "shape": (({"a": ONE},), ({"a": jnp.ones((2, 3))},), "`x['a']`: shape (2,) became (2, 3)"),
    "dtype": (({"a": ONE},), ({"a": jnp.ones(2, "int8")},), "`x['a']`: dtype float32 became int8"),
    "a key": ((jax.random.key(0),), (jax.random.PRNGKey(0),), "`x`: shape () became (2,)\n  `x`: dtype key<fry> became uint32"),
    "weak type": (([jnp.float32(1.0)],), ([jnp.asarray(1.0)],), "`x[0]`: weak type False became True"),
    "sharding": (
        (Model(ONE),),
        (Model(jax.device_put(ONE, jax.devices()[0])),),
        f"`x.weight`: sharding (not bound to a device) became {jax.sharding.SingleDeviceSharding(jax.devices()[0])}",
    ),
    "structure": (([ONE],), ([ONE, ONE],), "`x[1]`: structure: float32[2] is new"),
    "structure, less": (([ONE, 2],), ([ONE],), "`x[1]`: structure: 2 is not there any more"),
    "structure, a node": (
        (Model(ONE),),
        (Model([ONE]),),
        "`x.weight`: structure: float32[2] became list of 1",
    ),
    "an argument": ((ONE,), (ONE, 1), "`n`: structure: it was not passed before"),
    "no argument": ((ONE, 1), (ONE,), "`n`: structure: it is not passed any more"),
    "static value": ((Model(ONE, "a"),), (Model(ONE, "b"),), "`x.activation`: static value 'a' became 'b'"),
    "static number": (
        (ONE, 1),
        (ONE, 2),
        "`n`: static value 1 became 2. A Python number is static: make it an array, and it is traced once.",
    ),
    "static type": (
        (ONE, 1),
        (ONE, True),
        "`n`: static value 1 (int) became True (bool). A Python number is static: make it an array, and it is traced once.",
    ),
    "static function": (
        (ONE, lambda: 1),
        (ONE, lambda: 1),
        "`n`: static value <function <lambda>> became <function <lambda>>. It is another object: make it once and pass "
        "the same one.",
    ),
    "static field": ((Model(ONE, size=1),), (Model(ONE, size=2),), "`x.size`: static value: 1 became 2"),
    "static to array": ((ONE, 1), (ONE, jnp.ones(3)), "`n`: static value 1 became float32[3]"),
    "array to static": ((ONE, jnp.ones(3)), (ONE, "a"), "`n`: static value float32[3] became 'a'"),
    "by name": ({"x": ONE, "other": [1, ONE]}, {"x": ONE, "other": [1, ONE[:1]]}, "`other[1]`: shape (2,) became (1,)"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_each_kind_of_change_is_told_by_its_text(case):
    before, after, text = CHANGES[case]
    assert reports(before, before, after, after, before) == [HEAD + text]


def test_several_changes_are_all_told():
    (text,) = reports((Model(ONE), 1), (Model(jnp.ones(3, "int8")), "a"))
    assert text.splitlines()[1:] == [
        "  `x.weight`: shape (2,) became (3,)",
        "  `x.weight`: dtype float32 became int8",
        "  `n`: static value 1 (int) became 'a' (str)",
    ]


def test_it_is_compared_with_the_most_similar_call():
    texts = reports((ONE, "a"), ([ONE, ONE], "b"), (jnp.ones(3), "a"))
    assert texts[1].splitlines() == [
        "`fun` is traced again, for the 3rd time. Since the most similar call:",
        "  `x`: shape (2,) became (3,)",
    ]


def test_a_setting_of_jax_is_told():
    texts = []
    explained = explain_retrace(filter_jit(lambda x: x), report=texts.append)
    explained(ONE)
    with jax.default_matmul_precision("highest"):
        explained(ONE)
    (text,) = texts
    assert "no argument changed, but a setting of JAX" in text


def test_arrays_of_numpy_and_of_jax_are_one_program():
    assert reports((ONE,), (np.ones(2, np.float32),), (jnp.zeros(2),)) == []


def test_it_reports_just_when_the_function_is_traced():
    count, texts = [], []
    explained = explain_retrace(filter_jit(lambda x, n=0: count.append(None)), report=texts.append)
    calls = [(1.0,), (2.0,), (ONE,), (np.float32(1),), (ONE[:1], 1), (ONE, 1.0), (ONE, True), ([ONE],), (ONE, 1)]
    for call in (*calls, *calls):
        explained(*call)
        assert len(count) == len(texts) + 1


def test_the_result_is_that_of_the_function():
    explained = explain_retrace(filter_jit(lambda model, x: (model.weight * x, model.activation)))
    out, activation = explained(Model(ONE), 2 * ONE)
    assert out.tolist() == [2.0, 2.0]
    assert activation is jnp.tanh
    assert float(jax.grad(lambda x: explained(Model(x), 3.0)[0])(2.0)) == 3.0
    assert jax.vmap(lambda x: explained(Model(x), 3.0)[0])(ONE).tolist() == [3.0, 3.0]


def test_the_function_itself_does_not_report(capsys):
    plain = filter_jit(lambda x: x)
    explained = explain_retrace(plain)
    for x in (ONE, ONE[:1]):
        plain(x)
    assert capsys.readouterr() == ("", "")
    for x in (ONE, ONE[:1]):
        explained(x)
    out, err = capsys.readouterr()
    assert out == ""
    assert "`x`: shape (2,) became (1,)" in err


def test_methods_and_jitf_are_explained():
    class Layer(eqx_core.Module):
        w: jax.Array

        @filter_jit
        def scaled(self, x):
            return self.w * x

    texts = []
    for n in (2, 3):
        explain_retrace(Layer(jnp.ones(n)).scaled, report=texts.append)(1.0)
    assert texts[0].splitlines()[1:] == ["  `self.w`: shape (2,) became (3,)"]
    texts.clear()
    explained = explain_retrace(jitf(lambda x, n: x, filter_tree=(True, False)), report=texts.append)
    for call in ((1, 2), (3, 2), (3, 4)):
        explained(*call)
    assert len(texts) == 1
    assert "`n`: static value 2 became 4" in texts[0]


def test_a_module_with_arrays_is_explained():
    texts = []
    for n in (2, 3):
        model = eqx_core.Partial(jnp.add, jnp.ones(n))
        explain_retrace(filter_jit(model), report=texts.append)(1.0)
    (text,) = texts
    assert "`fun.args[0]`: shape (2,) became (3,)" in text


def test_a_function_that_is_explained_is_not_kept_alive():
    def local(x):
        return x

    explained = explain_retrace(filter_jit(local))
    explained(ONE)
    reference = weakref.ref(local)
    del explained, local
    gc.collect()
    assert reference() is None


def test_it_does_not_keep_the_arrays():
    explained = explain_retrace(filter_jit(lambda x: None))
    x = jnp.ones(3)
    explained([x])
    reference = weakref.ref(x)
    del x
    gc.collect()
    assert reference() is None


def test_a_function_that_is_not_jitted_is_an_error():
    for wrong in (len, jax.jit(len), eqx_core.Partial(len)):
        with pytest.raises(TypeError, match=r"`explain_retrace\(fn\)` must be given a function that `filter_jit` has"):
            explain_retrace(wrong)


@pytest.mark.parametrize(("value", "is_on"), [("1", True), ("0", False), (None, False)])
def test_the_environment_turns_it_on_for_all(value, is_on):
    script = """
        import jax.numpy as jnp, eqx_filter
        f = eqx_filter.filter_jit(lambda x: x)
        f(jnp.ones(2)); f(jnp.ones(2)); f(jnp.ones(3))
        print(type(f._cache).__name__)
    """
    environment = {name: text for name, text in os.environ.items() if name != "EQX_EXPLAIN_RETRACE"}
    environment |= {} if value is None else {"EQX_EXPLAIN_RETRACE": value}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ("`x`: shape (2,) became (3,)" in done.stderr) is is_on
    assert done.stdout.split() == ["ExplainedCache" if is_on else "Cache"]


def test_it_is_found_under_debug():
    assert eqx_filter.debug.explain_retrace is explain_retrace
