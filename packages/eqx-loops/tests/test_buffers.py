"""Buffers: what they offer in a loop, and that they are changed in place."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_core
import eqx_filter
import eqx_loops._buffers
from eqx_loops import MaybeBuffer, buffer_at_set, while_loop

Buffer = eqx_loops._buffers.Buffer

SIZE = 1000


def powers(x, size=SIZE, steps=None, *, kind="lax", pred=True):
    """Fill a buffer with the powers of `x`, each made of the one before as it is in the buffer."""

    def body(carry):
        i, buffer, last = carry
        return i + 1, buffer.at[i].set(last, pred=pred), x * last

    init = 0, jnp.zeros(size), jnp.ones_like(x)
    steps = size if steps is None else steps
    return while_loop(lambda c: c[0] < steps, body, init, kind=kind, max_steps=size, buffers=lambda c: c[1])[1]


def of_loop(array, pred=True):
    return Buffer(jnp.asarray(array), jnp.asarray(pred))


def test_a_buffer_is_no_array_but_has_a_shape():
    buffer = of_loop(np.zeros((2, 3), np.int8))
    assert not eqx_core.is_array(buffer)
    assert (buffer.shape, buffer.dtype, buffer.size, buffer.ndim) == ((2, 3), jnp.int8, 6, 2)


@pytest.mark.parametrize("item", [1, slice(0, 2), (0, 1), jnp.array([1, 0]), (slice(None), jnp.array(2))])
def test_it_is_read_and_written_as_an_array_is(item):
    array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    buffer = of_loop(array)
    np.testing.assert_array_equal(buffer[item], array[item])
    written = buffer.at[item].set(7)
    assert type(written) is Buffer
    array[item] = 7
    np.testing.assert_array_equal(written.array, array)
    np.testing.assert_array_equal(buffer_at_set(buffer, item, 8, pred=jnp.array(False)).array, buffer.array)


@pytest.mark.parametrize("make", [jnp.asarray, of_loop])
def test_buffer_at_set_is_the_same_for_arrays_and_buffers(make):
    def values(buffer):
        return getattr(buffer, "array", buffer).tolist()

    buffer = make(jnp.zeros(3))
    assert values(buffer_at_set(buffer, 1, 5.0)) == [0, 5, 0]
    assert values(buffer_at_set(buffer, 1, 5.0, pred=jnp.array(False))) == [0, 0, 0]
    assert values(buffer_at_set(buffer, 1, 5.0, pred=False)) == [0, 0, 0]
    assert values(buffer_at_set(buffer, slice(1, None), 5)) == [0, 5, 5]
    assert values(buffer_at_set(buffer, jnp.array(7), 5, mode="clip")) == [0, 0, 5]
    assert values(jax.jit(lambda pred: buffer_at_set(buffer, 1, 5.0, pred=pred))(False)) == [0, 0, 0]
    text = "`buffer.at[...].set(x=...)` must have a dtype that promotes to that of the buffer, which is `float32`; got "
    with pytest.raises(ValueError, match=re.escape(text + "`complex64`")) as caught:
        buffer_at_set(buffer, 1, jnp.ones((), complex))
    assert "make the buffer one of `complex64`." in str(caught.value)


def test_smaller_dtypes_are_converted():
    assert buffer_at_set(jnp.zeros(2), 0, jnp.array(1.5, jnp.bfloat16)).tolist() == [1.5, 0.0]
    assert buffer_at_set(jnp.zeros(2), 0, jnp.array(3, jnp.int32)).tolist() == [3.0, 0.0]


def test_maybe_buffer_looks_at_the_array_inside():
    array = jnp.ones(2)
    assert isinstance(array, MaybeBuffer[jax.Array])
    assert isinstance(of_loop(array), MaybeBuffer[jax.Array])
    assert isinstance(1.0, MaybeBuffer[float])
    assert not isinstance(of_loop(array), MaybeBuffer[float])
    assert isinstance(of_loop(array), MaybeBuffer)
    assert isinstance(array, MaybeBuffer)
    assert not isinstance(1.0, MaybeBuffer)
    assert MaybeBuffer[float].__name__ == "MaybeBuffer[float]"


def test_maybe_buffer_of_a_shape():
    jaxtyping = pytest.importorskip("jaxtyping")
    kind = MaybeBuffer[jaxtyping.Float[jax.Array, "3"]]
    assert [isinstance(of_loop(jnp.ones(n)), kind) for n in (2, 3)] == [False, True]


@pytest.mark.parametrize("kind", ["lax", "bounded"])
def test_a_loop_fills_a_buffer(kind):
    expected = np.where(np.arange(10) < 7, 0.5 ** np.arange(10), 0)
    np.testing.assert_allclose(powers(0.5, 10, 7, kind=kind), expected)
    np.testing.assert_array_equal(powers(0.5, 10, 7, kind=kind, pred=jnp.array(False)), np.zeros(10))
    batched = jax.jit(jax.vmap(lambda x, steps: powers(x, 10, steps, kind=kind)))(
        jnp.array([0.5, 2.0]), jnp.array([7, 3])
    )
    np.testing.assert_allclose(batched, [expected, np.where(np.arange(10) < 3, 2.0 ** np.arange(10), 0)])
    tangent = jax.jvp(lambda x: powers(x, 10, 7, kind=kind), (0.5,), (1.0,))[1]
    exponents = np.arange(10.0)
    np.testing.assert_allclose(tangent, np.where(exponents < 7, exponents * 0.5 ** (exponents - 1), 0), rtol=1e-6)


def fill_by_nested_loops(x, kind):
    def inner_body(carry):
        j, i, buffer, x = carry
        return j + 1, i, buffer.at[3 * i + j].set(x, pred=j != 1), jnp.sin(x)

    def outer_body(carry):
        i, buffer, x = carry
        init = 0, i, buffer, x
        inner = {"kind": kind, "max_steps": 3, "buffers": lambda c: c[2]}
        _, _, buffer, x = while_loop(lambda c: c[0] < 3, inner_body, init, **inner)
        return i + 1, buffer, buffer[3 * i] * x

    outer = {"kind": kind, "max_steps": 3, "buffers": lambda c: c[1]}
    _, buffer, x = while_loop(lambda c: (c[0] < 2) & (c[2] < 1), outer_body, (0, jnp.zeros(9), x), **outer)
    return buffer


def fill_by_python(x):
    buffer, i = jnp.zeros(9), 0
    while i < 2 and x < 1:
        first = x
        for j in range(3):
            buffer = buffer.at[3 * i + j].set(x) if j != 1 else buffer
            x = jnp.sin(x)
        i, x = i + 1, first * x
    return buffer


@pytest.mark.parametrize("kind", ["lax", "bounded"])
def test_loops_within_loops_share_a_buffer(kind):
    xs = jnp.array([0.5, 0.9, 2.0])
    expected = jnp.stack(list(map(fill_by_python, xs)))
    np.testing.assert_allclose(fill_by_nested_loops(xs[0], kind), expected[0], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(lambda x: fill_by_nested_loops(x, kind)))(xs), expected, rtol=1e-6)


def test_gradients_of_nested_loops_that_share_a_buffer():
    def loss(fill, x):
        return jnp.sum(fill(x) * jnp.arange(9.0) ** 2)

    xs = jnp.array([0.5, 0.9, 2.0])
    grads = jax.jit(jax.vmap(jax.grad(lambda x: loss(lambda x: fill_by_nested_loops(x, "bounded"), x))))(xs)
    np.testing.assert_allclose(grads, [jax.grad(lambda x: loss(fill_by_python, x))(x) for x in xs], rtol=1e-5)


def copies_in_loops(compiled, shape):
    """Return the copies of an array in all but the entry of a compiled program, which may copy its arguments."""
    inside, lines = True, []
    for line in compiled.as_text().split("\n"):
        if line.startswith("ENTRY"):
            inside = False
        elif line.startswith("}"):
            inside = True
        elif inside and re.search(rf"= {re.escape(shape)}\S* (copy|select)\(", line):
            lines.append(line)
    return lines


PROGRAMS = {
    "lax": lambda x: powers(x),
    "bounded": lambda x: powers(x, kind="bounded"),
    "with a predicate": lambda x: powers(x, pred=x < 2),
    "jvp": lambda x: jax.jvp(powers, (x,), (x,)),
    "grad of bounded": jax.grad(lambda x: jnp.sum(powers(x, kind="bounded"))),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_buffer_is_not_copied_in_the_compiled_program(program):
    compiled = jax.jit(program).lower(1.0).compile()
    assert f"f32[{SIZE}]" in compiled.as_text()
    assert copies_in_loops(compiled, f"f32[{SIZE}]") == []


@pytest.mark.parametrize("kind", ["lax", "bounded"])
def test_a_batch_of_buffers_is_not_copied_in_the_compiled_program(kind):
    mapped = jax.vmap(lambda x, steps: powers(x, steps=steps, kind=kind))
    compiled = jax.jit(mapped).lower(jnp.ones(2), jnp.array([3, 4])).compile()
    assert f"f32[2,{SIZE}]" in compiled.as_text()
    assert copies_in_loops(compiled, f"f32[2,{SIZE}]") == []


def test_the_test_for_copies_sees_one():
    """A carry that is no buffer is selected from in a batch."""

    def fill(x, steps):
        def body(carry):
            i, array = carry
            return i + 1, array.at[i].set(x)

        return while_loop(lambda c: c[0] < steps, body, (0, jnp.zeros(SIZE)), kind="lax")[1]

    compiled = jax.jit(jax.vmap(fill)).lower(jnp.ones(2), jnp.array([3, 4])).compile()
    assert copies_in_loops(compiled, f"f32[2,{SIZE}]") != []


def test_writing_takes_as_much_work_however_large_the_buffer():
    def flops(size):
        return jax.jit(lambda x: powers(x, size, 100)).lower(1.0).compile().cost_analysis()["bytes accessed"]

    # The buffer is made once: that is all that grows with its size.
    assert flops(20_000) - flops(10_000) < 5 * 4 * 10_000


def test_buffers_go_through_transformations_in_the_body():
    def body(carry):
        i, buffer = carry

        @eqx_filter.filter_jit
        def write(buffer):
            return buffer.at[i].set(5.0)

        return i + 1, jax.lax.cond(i == 1, write, lambda buffer: buffer, buffer)

    _, buffer = while_loop(lambda c: c[0] < 3, body, (0, jnp.zeros(3)), kind="lax", buffers=lambda c: c[1])
    assert buffer.tolist() == [0.0, 5.0, 0.0]
