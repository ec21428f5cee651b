import jax
import jax.extend.core
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_closure_convert

TWO, THREE = jnp.array(2.0), jnp.array(3.0)
STRUCT = jax.ShapeDtypeStruct((), jnp.float32)


def plain(x, n=None):
    return x * 2, n


def scale(by, *args, fn=lambda x, by: (x * by, "s", None), **kwargs):
    return filter_closure_convert(lambda x, *_, **__: fn(x, by), *args, **kwargs)


def test_a_function_without_closure_stays_as_it_is():
    converted = filter_closure_convert(plain, TWO, n="n")
    assert type(converted).__name__ == "_TrivialClosureConvert"
    assert converted.fn is plain
    assert converted(THREE, n="n") == (6.0, "n")
    assert converted.in_struct == ((STRUCT,), {"n": "n"})
    assert converted.out_struct == (STRUCT, "n")
    assert jtu.tree_leaves(converted) == [plain]


def test_a_closure_becomes_a_jaxpr_and_its_constants():
    by = jnp.array(4.0)
    converted = scale(by, TWO, 3)
    assert isinstance(converted.jaxpr, jax.extend.core.Jaxpr)
    assert len(converted.consts) == 1
    assert converted.consts[0] is by
    assert jtu.tree_leaves(converted) == [converted.jaxpr, by]
    assert converted(THREE, 3) == (12.0, "s", None)
    assert converted.in_struct == ((STRUCT, 3), {})
    assert converted.out_struct[0].shape == ()
    assert converted.out_struct[1:] == ("s", None)


def test_defaults_that_hold_arrays_count_as_closures():
    def fn(x, by=TWO):
        return x * by

    converted = filter_closure_convert(fn, THREE)
    assert len(converted.consts) == 1
    assert converted.consts[0] is TWO


@pytest.mark.parametrize("transform", ["eager", "jit", "grad", "vmap", "jvp", "jvp of jit"])
def test_the_very_tracers_become_the_constants(transform):
    identical = []

    def run(by):
        converted = scale(by, TWO, fn=lambda x, by: x * by + by)
        identical.append(len(converted.consts) == 1 and converted.consts[0] is by)
        return converted(THREE)

    runs = {
        "eager": run,
        "jit": jax.jit(run),
        "grad": jax.value_and_grad(run),
        "vmap": lambda x: jax.vmap(run)(x[None]),
        "jvp": lambda x: jax.jvp(run, (x,), (x,)),
        "jvp of jit": lambda x: jax.jvp(jax.jit(run), (x,), (x,)),
    }
    assert jtu.tree_leaves(runs[transform](jnp.array(5.0)))[0] == 20.0
    assert identical
    assert all(identical)


def test_the_constants_are_differentiated_and_batched():
    def run(by):
        return scale(by, TWO)(THREE)[0]

    assert jax.grad(run)(TWO) == 3.0
    assert jax.vmap(run)(jnp.arange(2.0)).tolist() == [0.0, 3.0]
    converted = scale(TWO, TWO)
    grad = eqx_filter.filter_grad(lambda converted: converted(THREE)[0])(converted)
    assert grad.consts == [3.0]
    assert grad.jaxpr is None
    assert eqx_filter.filter_jit(lambda converted, x: converted(x))(converted, THREE) == (6.0, "s", None)


def test_the_constants_have_tangents_in_a_custom_rule():
    apply = eqx_filter.filter_custom_jvp(lambda fn, x: fn(x)[0])

    @apply.def_jvp
    def rule(primals, tangents):
        (fn, x), (fn_dot, x_dot) = primals, tangents
        assert x_dot is None
        assert len(fn_dot.consts) == 1
        return fn(x)[0], 10 * fn_dot.consts[0]

    assert jax.grad(lambda by: apply(scale(by, TWO), THREE))(TWO) == 10.0


class Affine(eqx_core.Module):
    weight: jax.Array
    act: object

    def __call__(self, x):
        return self.act(self.weight * x)


@pytest.mark.parametrize("kind", ["module", "method", "partial", "builtin", "jitted"])
def test_any_callable_will_do(kind):
    model = Affine(TWO, jnp.sin)
    fn = {
        "module": model,
        "method": model.__call__,
        "partial": eqx_core.Partial(lambda m, x: m(x), model),
        "builtin": abs,
        "jitted": eqx_filter.filter_jit(model),
    }[kind]
    converted = filter_closure_convert(fn, THREE)
    np.testing.assert_allclose(converted(TWO), abs(TWO) if kind == "builtin" else jnp.sin(4.0), rtol=1e-6)
    assert all(const is TWO for const in converted.consts)


def test_it_nests():
    inner = scale(TWO, TWO, fn=lambda x, by: x * by)
    outer = filter_closure_convert(lambda x: inner(x) + 1, THREE)
    assert outer(THREE) == 7.0
    assert outer.consts[0] is TWO


def test_structs_do_as_examples():
    converted = scale(TWO, STRUCT)
    assert converted(THREE)[0] == 6.0
    assert converted.in_struct == ((STRUCT,), {})
    key = jr.key(0)
    keyed = filter_closure_convert(lambda key: jr.normal(key) * TWO, jax.eval_shape(lambda: key))
    assert keyed(key).shape == ()


def test_the_state_of_weakness_does_not_count():
    for make in (lambda x: scale(TWO, x), lambda x: filter_closure_convert(plain, x)):
        converted = make(jnp.asarray(2.0))
        assert jnp.asarray(2.0).weak_type
        assert converted(jnp.ones((), jnp.float32))[0] == 2.0
        assert make(jnp.ones((), jnp.float32))(jnp.asarray(2.0))[0] == 4.0
        assert not converted.in_struct[0][0].weak_type


def test_two_conversions_of_one_program_have_one_structure():
    first, second = scale(TWO, TWO), scale(THREE, THREE)
    structures = [jtu.tree_structure(eqx_core.tree_at(lambda c: c.jaxpr, c, 0)) for c in (first, second)]
    assert structures[0] == structures[1]


@pytest.mark.parametrize("make", [lambda *args: scale(TWO, *args), lambda *args: filter_closure_convert(plain, *args)])
@pytest.mark.parametrize(
    ("args", "match"),
    [
        (
            (jnp.ones(2), 3),
            r"different dynamic arguments .*`\(\(f32\[\], None\), {}\)`; got `\(\(f32\[2\], None\), {}\)`",
        ),
        ((jnp.array(1), 3), r"different dynamic arguments .*got `\(\(i32\[\], None\), {}\)`"),
        ((2.0, 3), "different dynamic arguments"),
        ((TWO,), "different dynamic arguments"),
        ((TWO, 4), r"different static arguments .*`\(\(None, 3\), {}\)`; got `\(\(None, 4\), {}\)`"),
        ((TWO, 3.0), "different static arguments"),
        ((TWO, True), "different static arguments"),
    ],
)
def test_arguments_must_be_like_the_examples(make, args, match):
    with pytest.raises(ValueError, match=f"Closure-converted function called with {match}"):
        make(TWO, 3)(*args)


def test_no_tracer_leaks():
    with jax.checking_leaks():
        assert jax.jit(lambda by: scale(by, TWO)(THREE)[0])(TWO) == 6.0
