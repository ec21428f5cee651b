"""`debug.first_nan`: a fault that was put into a known place is found there."""

import inspect
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_filter
from eqx_filter import filter_checkpoint, filter_grad, filter_jit, filter_value_and_grad
from eqx_filter.debug import NonFinite, first_nan

X = np.array([0.5, -1.0, 2.0], np.float32)


class Norm(eqx_core.Module):
    scale: jax.Array

    def __call__(self, x):
        return self.scale * x / jnp.sqrt(jnp.sum(x**2) - self.threshold())

    def threshold(self):
        return jnp.where(self.scale[0] > 100, 1e9, 0.0)


class Block(eqx_core.Module):
    norm: Norm
    weight: jax.Array

    def __call__(self, x):
        return x + jnp.tanh(self.weight @ self.norm(x))


class Model(eqx_core.Module):
    blocks: list
    how: str = eqx_core.field(static=True, default="plain")

    def __call__(self, x):
        for block in self.blocks:
            x = (
                filter_jit(block)(x)
                if self.how == "filter_jit"
                else filter_checkpoint(block)(x)
                if self.how
                else block(x)
            )
        return x

    def loss(self, x):
        return jnp.sum(self(x) ** 2)


def model_with(fault, how="", count=12):
    blocks = [
        Block(Norm(jnp.full(3, 200.0 if i == fault else 1.0)), jr.normal(jr.key(i), (3, 3))) for i in range(count)
    ]
    return Model(blocks, how)


def loss(model, x):
    return jnp.sum(model(x) ** 2)


def line_of(method, text):
    lines, first = inspect.getsourcelines(method)
    return first + next(i for i, line in enumerate(lines) if text in line)


@pytest.mark.parametrize("how", ["", "checkpoint", "filter_jit"])
@pytest.mark.parametrize(
    "compile_it",
    [lambda f: f, jax.jit, filter_jit, lambda f: filter_jit(filter_grad(f))],
    ids=["eager", "jit", "fj", "gr"],
)
def test_the_block_that_fails_is_found(how, compile_it):
    model = model_with(7, how)
    if compile_it is jax.jit:
        run = jax.jit(lambda blocks: loss(eqx_core.tree_at(lambda m: m.blocks, model, blocks), X))
        report, name = first_nan(run)(model.blocks), "blocks[7].norm"
    else:
        report, name = first_nan(compile_it(loss))(model, X), "model.blocks[7].norm"
    assert isinstance(report, NonFinite)
    assert (report.kind, report.stage, report.module, report.primitive) == ("NaN", "forward", name, "sqrt")
    file, line, function = report.frames[-1]
    assert (file, line) == (__file__, line_of(Norm.__call__, "jnp.sqrt"))
    assert function.endswith("__call__")
    assert report.steps == ()
    (put_in,) = report.inputs
    assert (put_in.dtype, put_in.shape, put_in.nan, put_in.inf) == ("float32", (), 0, 0)
    assert put_in.min == put_in.max < -9e8
    assert (report.output.nan, report.output.min) == (1, None)


@pytest.mark.parametrize("transform", [lambda f: f, filter_grad, filter_value_and_grad, filter_jit])
def test_where_all_is_finite_there_is_no_report(transform):
    assert first_nan(transform(loss))(model_with(None, count=2), X) is None


def test_the_text_says_all():
    text = str(first_nan(loss)(model_with(2, count=3), X))
    source = f'  File "{__file__}", line {line_of(Norm.__call__, "jnp.sqrt")}, in Norm.__call__'
    assert text.startswith("NaN in the forward pass, in `model.blocks[2].norm`\n")
    # Until Python 3.11 the name of a function is not qualified everywhere.
    assert source in text or source.replace("Norm.__", "__") in text
    assert "\n    return self.scale * x / jnp.sqrt(jnp.sum(x**2) - self.threshold())\n" in text
    assert re.search(r"\n  sqrt\n    in   f32\[\] = -1e\+09\n    out  f32\[\], 1 NaN of 1$", text)


def test_methods_and_callable_modules_are_named_too():
    model = model_with(1, count=2)
    assert first_nan(model)(X).module == "fn.blocks[1].norm"
    assert first_nan(model.loss)(X).module == "fn.blocks[1].norm"
    assert first_nan(filter_jit(model))(X).module == "fn.blocks[1].norm"
    assert first_nan(lambda models, x: models["a"][0].blocks[1].norm(x))({"a": [model]}, X).module == (
        "models['a'][0].blocks[1].norm"
    )


class Names(eqx_core.Module):
    """The method that fails is none but `__call__`."""

    weight: jax.Array

    @filter_jit
    def logs(self, x):
        return jnp.log(x - self.weight)

    def helper(self, x):
        return self.logs(x)


def test_methods_by_other_names_count():
    report = first_nan(lambda m, x: m["a"].helper(x))({"a": Names(jnp.ones(3))}, jnp.zeros(3))
    assert (report.module, report.primitive, report.kind) == ("m['a']", "log", "NaN")


def test_without_a_module_the_line_is_known_yet():
    def fn(x):
        return jnp.arcsin(x) + 1

    report = first_nan(fn)(X)
    assert (report.module, report.primitive, report.frames[-1][:2]) == (None, "asin", (__file__, line_of(fn, "arcsin")))
    assert str(report).startswith("NaN in the forward pass\n")


def test_parts_with_the_same_compiled_method_are_told_apart():
    names = [Names(jnp.array(-1.0)), Names(jnp.array(0.1)), Names(jnp.array(1.0))]

    def fn(names, x):
        for each in names:
            x = each.logs(x)
        return x

    # log(2 + 1) = 1.0986, log(1.0986 - 0.1) = -0.0014, log(-0.0014 - 1) is NaN.
    assert first_nan(fn)(names, jnp.array(2.0)).module == "names[2]"


# Backward.


def test_a_factor_that_is_infinite_belongs_to_the_backward_pass():
    report = first_nan(jax.grad(lambda x: jnp.sum(jnp.sqrt(x))))(jnp.array([1.0, 0.0]))
    assert (report.kind, report.stage, report.primitive) == ("Inf", "backward", "div")
    assert first_nan(lambda x: jnp.sum(jnp.sqrt(x)))(jnp.array([1.0, 0.0])) is None
    assert first_nan(jax.grad(lambda x: jnp.sum(jnp.sqrt(x))), inf=False)(jnp.array([1.0, 0.0])) is None


class Trap(eqx_core.Module):
    """The forward pass is right everywhere; the derivative at 0 is not."""

    scale: jax.Array

    def __call__(self, x):
        return jnp.where(x > 0, jnp.sqrt(self.scale * x), 0.0)


@pytest.mark.parametrize("wrap", [lambda f: f, filter_jit, filter_checkpoint], ids=["plain", "jit", "checkpoint"])
@pytest.mark.parametrize("inf", [True, False])
def test_the_trap_of_where_is_found_in_the_backward_pass(wrap, inf):
    traps = [Trap(jnp.ones(())), Trap(jnp.ones(()))]

    def loss(traps, x):
        return jnp.sum(wrap(traps[1])(wrap(traps[0])(x - 1) + 1))

    x = jnp.array([2.0, 1.0])
    assert first_nan(loss)(traps, x) is None
    assert np.isnan(filter_grad(loss)(traps, x)[0].scale).all()
    report = first_nan(filter_grad(loss), inf=inf)(traps, x)
    assert report.stage == "backward"
    assert report.module == "traps[0]"
    assert report.frames[-1][:2] == (__file__, line_of(Trap.__call__, "jnp.sqrt"))
    assert (report.kind, report.primitive) == (("Inf", "div") if inf else ("NaN", "mul"))


@jax.custom_vjp
def bad_rule(x):
    return 2 * x


bad_rule.defvjp(lambda x: (2 * x, x), lambda x, g: (g * jnp.log(-x),))


def test_a_rule_of_ones_own_that_fails_is_found():
    report = first_nan(jax.grad(lambda x: jnp.sum(bad_rule(x) ** 2)))(X)
    assert (report.stage, report.primitive) == ("backward", "log")
    assert report.inputs[0].min == -2.0


def test_the_train_step_of_an_optimiser_keeps_the_names():
    model = model_with(1, count=2)
    moments = jax.tree.map(jnp.zeros_like, model)

    @filter_jit
    def step(model, moments, x):
        grads = filter_grad(loss)(model, x)
        moments = jax.tree.map(lambda m, g: 0.9 * m + g, moments, grads)
        return jax.tree.map(lambda w, m: w - 0.1 * m, model, moments), moments

    assert first_nan(step)(model, moments, X).module == "model.blocks[1].norm"
    good = model_with(None, count=2)
    assert first_nan(step)(good, jax.tree.map(jnp.zeros_like, good), X) is None


def test_a_list_of_layers_and_its_optimiser_keep_the_names():
    blocks = model_with(2, "filter_jit", count=3).blocks

    @filter_jit
    def step(blocks, moments, x):
        grads = filter_grad(lambda blocks, x: loss(Model(blocks, "filter_jit"), x))(blocks, x)
        return jax.tree.map(lambda w, m, g: w - m - g, blocks, moments["first"], grads)

    assert first_nan(step)(blocks, {"first": jax.tree.map(jnp.zeros_like, blocks)}, X).module == "blocks[2].norm"


def test_a_teacher_is_told_from_its_student():
    good, bad = model_with(None, count=2), model_with(0, count=2)

    def distance(student, teacher, x):
        return jnp.sum((student(x) - teacher(x)) ** 2)

    assert first_nan(distance)(good, bad, X).module == "teacher.blocks[0].norm"
    assert first_nan(distance)(bad, good, X).module == "student.blocks[0].norm"


def test_a_program_that_stacks_its_layers_is_run_without_names():
    model = model_with(1, count=3)

    def fn(model, x):
        stack = jax.tree.map(lambda *xs: jnp.stack(xs), *model.blocks)
        return jax.lax.scan(lambda x, block: (block(x), None), x, stack)[0]

    report = first_nan(fn)(model, X)
    assert (report.module, report.primitive, report.steps) == (None, "sqrt", (("scan", 1),))


# Loops and branches.


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("compile_it", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_the_iteration_of_a_scan_is_found(reverse, compile_it):
    def fn(x, rows):
        return jax.lax.scan(lambda c, row: (c + jnp.log(row), c), x, rows, reverse=reverse)

    rows = jnp.ones((6, 2)).at[4, 1].set(-1.0)
    report = first_nan(compile_it(fn))(jnp.zeros(2), rows)
    assert (report.kind, report.primitive, report.steps) == ("NaN", "log", (("scan", 4),))
    assert report.inputs[0].name == "rows[4]"
    assert "NaN in the forward pass, step 4 of a scan\n" in str(report)
    assert first_nan(compile_it(fn))(jnp.zeros(2), jnp.ones((6, 2))) is None


def test_a_scan_computes_what_jax_does():
    """A scan that is taken apart hands on what a scan does, so that a later fault depends on it."""

    def fn(x):
        carry, (ys, keys) = jax.lax.scan(
            lambda c, i: (c + i, (c * i, jr.fold_in(jr.key(0), i))), x, jnp.arange(4), reverse=True
        )
        noise = jax.vmap(jr.normal)(keys)
        wrong = jnp.abs(ys - jnp.array([0, 5, 6, 0])) + jnp.abs(carry - 6) + int(noise.shape != (4,))
        return jnp.sqrt(0.0 - wrong.astype(jnp.float32)), jax.lax.scan(lambda c, _: (c, c), x, None, length=0)

    assert first_nan(fn)(jnp.array(0)) is None
    assert first_nan(fn)(jnp.array(1)).primitive == "sqrt"


def test_a_scanned_stack_of_layers_names_the_stack_and_the_step():
    blocks = model_with(2, count=4).blocks
    stack = jax.tree.map(lambda *xs: jnp.stack(xs), *blocks)

    def fn(stack, x):
        return jnp.sum(jax.lax.scan(lambda x, block: (block(x), None), x, stack)[0])

    for each in (fn, jax.grad(fn), jax.jit(jax.grad(fn))):
        report = first_nan(each)(stack, X)
        assert (report.module, report.stage, report.steps) == ("stack.norm", "forward", (("scan", 2),))


def test_a_fault_of_the_backward_pass_of_a_scan_has_its_iteration():
    rows = jnp.ones(5).at[3].set(0.0)

    def fn(rows):
        return jax.lax.scan(lambda c, row: (c + jnp.where(row > 0, jnp.sqrt(row), 0.0), None), 0.0, rows)[0]

    assert first_nan(fn)(rows) is None
    report = first_nan(jax.grad(fn), inf=False)(rows)
    assert (report.stage, report.kind, report.steps) == ("backward", "NaN", (("scan", 3),))
    report = first_nan(jax.grad(fn))(rows)
    assert (report.stage, report.kind, report.primitive, report.steps) == ("backward", "Inf", "div", (("scan", 3),))


def test_the_iteration_of_a_while_loop_is_found():
    def fn(x):
        return jax.lax.while_loop(lambda x: ~(x < -2), lambda x: jnp.log(x), x)

    # log(5) = 1.609, log of that is 0.476, of that -0.743, of that NaN.
    report = first_nan(fn)(jnp.array(5.0))
    assert (report.primitive, report.steps) == ("log", (("while", 3),))
    assert first_nan(lambda x: jax.lax.while_loop(lambda x: x < 9, lambda x: x * 2, x))(jnp.array(1.0)) is None
    condition = first_nan(lambda x: jax.lax.while_loop(lambda x: jnp.sqrt(x) > 0, lambda x: x - 1, x))(jnp.array(1.5))
    assert (condition.primitive, condition.steps) == ("sqrt", (("while", 2),))


def test_nested_loops_have_both_iterations():
    def fn(x):
        def outer(c, i):
            return jax.lax.fori_loop(0, 3, lambda j, c: c + jnp.sqrt(3.0 - i * j), c), None

        return jax.lax.scan(outer, x, jnp.arange(3.0))[0]

    assert first_nan(fn)(jnp.array(0.0)).steps == (("scan", 2), ("scan", 2))


def test_only_the_branch_that_is_taken_counts():
    def fn(x):
        return jax.lax.cond(x > 0, jnp.log, lambda x: x, x) + jax.lax.switch(1, [jnp.log, jnp.sin], x)

    assert first_nan(fn)(jnp.array(-1.0)) is None
    report = first_nan(lambda x: jax.lax.cond(x < 0, jnp.log, lambda x: x, x))(jnp.array(-1.0))
    assert report.primitive == "log"
    chosen = first_nan(lambda x: jax.lax.cond(x < 0, lambda x: jnp.nan, lambda x: x, x))(jnp.array(-1.0))
    assert (chosen.primitive, chosen.kind) == ("cond", "NaN")


def test_under_vmap_the_batch_is_seen_as_one():
    report = first_nan(jax.vmap(lambda x: jnp.log(x)))(jnp.array([1.0, -1.0, 2.0]))
    assert (report.primitive, report.output.shape, report.output.nan) == ("log", (3,), 1)
    assert (report.output.min, report.output.max) == (0.0, np.log(np.float32(2)))


# Inf and overflow.


@pytest.mark.parametrize(("dtype", "largest"), [(jnp.float16, 6e4), (jnp.bfloat16, 3e38), (jnp.float32, 3e38)])
def test_an_overflow_is_told_from_a_pole(dtype, largest):
    x = jnp.array([1.0, largest], dtype)
    report = first_nan(lambda x: x * 2)(x)
    assert (report.kind, report.primitive) == ("overflow", "mul")
    assert report.inputs[0].dtype == jnp.dtype(dtype).name
    np.testing.assert_allclose(report.inputs[0].max, largest, rtol=1e-2)
    assert (report.output.inf, report.output.max) == (1, 2.0)
    assert "`first_nan(fn, inf=False)`" in str(report)
    assert first_nan(lambda x: x * 2, inf=False)(x) is None
    for fn in (
        lambda x: 1 / (x - 1),
        lambda x: jnp.log(x - 1),
        lambda x: jax.lax.rsqrt(x - 1),
        lambda x: (x - 1) ** -1,
    ):
        assert first_nan(fn)(x).kind == "Inf"


def test_a_conversion_may_overflow():
    report = first_nan(lambda x: x.astype(jnp.float16))(jnp.array([1e5]))
    assert (report.kind, report.primitive) == ("overflow", "convert_element_type")


def test_what_a_mask_puts_in_is_no_finding():
    def attention(scores, mask):
        return jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)) + jnp.max(scores, initial=-jnp.inf)

    scores = jnp.array([1.0, 2.0, 3.0])
    assert first_nan(attention)(scores, jnp.array([True, True, False])) is None
    report = first_nan(attention)(scores, jnp.array([False, False, False]))
    assert report.kind == "NaN"


def test_a_nan_that_is_put_in_counts_where_it_is_chosen():
    def fn(x):
        return jnp.where(x > 0, x, jnp.nan) * 2

    assert first_nan(fn)(jnp.ones(2)) is None
    report = first_nan(fn)(jnp.array([1.0, -1.0]))
    assert (report.primitive, report.output.nan) == ("select_n", 1)


def test_inputs_that_are_not_finite_are_named():
    bad = eqx_core.tree_at(lambda m: m.blocks[1].weight, model_with(None, count=2), jnp.full((3, 3), jnp.nan))
    report = first_nan(loss)(bad, X)
    assert (report.kind, report.stage, report.module, report.primitive) == (
        "NaN",
        "input",
        "model.blocks[1].weight",
        None,
    )
    assert str(report) == "NaN in the input `model.blocks[1].weight`\n  f32[3,3], 9 NaN of 9"
    report = first_nan(lambda x, *, mask: x + mask)(X, mask=np.array([0, -np.inf, 0], np.float32))
    assert (report.kind, report.stage, report.module) == ("Inf", "input", "mask")
    assert first_nan(lambda x, *, mask: x + mask, inf=False)(X, mask=np.array([0, -np.inf, 0], np.float32)) is None


def test_leaves_of_the_arguments_are_named_among_what_went_in():
    def fn(model, x):
        return jnp.log(model["w"][:, None]) + x

    report = first_nan(fn)({"w": jnp.array([-1.0])}, jnp.ones((1, 2)))
    assert report.inputs[0].name == "model['w']"
    table = np.array([np.nan, 1.0, 2.0], np.float32)
    report = first_nan(lambda x: x * table)(X)
    assert (report.inputs[1].name, report.inputs[1].nan) == ("a constant", 1)


def test_other_dtypes_are_no_obstacle():
    def fn(x, z, n, key, flag):
        draw = jr.normal(key, (3,))
        return jnp.abs(jnp.fft.fft(x)) + jnp.abs(z) + n + draw + flag, z / z

    z = jnp.array([1 + 2j, 2j, 1], jnp.complex64)
    with jax.numpy_dtype_promotion("standard"):
        assert first_nan(fn)(X, z, jnp.arange(3), jr.key(0), jnp.array(True)) is None
        report = first_nan(fn)(X, z.at[1].set(0), jnp.arange(3), jr.key(0), jnp.array(True))
    assert (report.primitive, report.output.nan, report.output.dtype) == ("div", 1, "complex64")
    report = first_nan(lambda x: x.astype(jnp.float8_e4m3fn) * 1)(jnp.array([1.0, np.inf], jnp.float32))
    assert report.stage == "input"
    assert first_nan(lambda x: jnp.zeros((0,)) + jnp.sum(x))(X) is None


def test_float64_too():
    with jax.enable_x64(True):
        report = first_nan(lambda x: jax.lax.scan(lambda c, _: (c * 1e200, c), x, None, length=3))(jnp.array(1e100))
    assert (report.kind, report.output.dtype, report.steps) == ("overflow", "float64", (("scan", 1),))


# What it is given.


def test_values_must_be_known():
    with pytest.raises(RuntimeError, match=r"got a call inside of a function that is being compiled\. Call it outside"):
        jax.jit(lambda x: first_nan(jnp.sin)(X))(X)
    with pytest.raises(RuntimeError, match=r"where values are known; got .* for `x`\. Call it outside of `jax\.jit`"):
        jax.vmap(lambda x: first_nan(lambda x: x)(x))(X)
    with pytest.raises(RuntimeError, match=r"where values are known; got .* for `model\.blocks\[0\]\.norm\.scale`"):
        first_nan(loss)(jax.eval_shape(lambda: model_with(None, count=1)), X)
    with pytest.raises(TypeError, match=r"`first_nan\(fn\)` must be callable; got 3\. Write"):
        first_nan(3)


def test_errors_of_the_function_come_through():
    def fn(model, x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        first_nan(fn)(model_with(None, count=1), X)

    def checked(x):
        return eqx_filter.error_if(x, x < 0, "negative")

    with pytest.raises(eqx_filter.EquinoxRuntimeError, match="negative"):
        first_nan(checked)(X)


def test_the_checks_of_jax_do_not_come_first():
    with jax.debug_nans(True):
        assert first_nan(jnp.log)(-X).primitive == "log"


def test_anything_may_go_in_and_out():
    def fn(x, name, scale=2.0, flag=False):
        return {name: x * scale, "flag": flag}, jnp.sin, None

    assert first_nan(fn)(X, "a", flag=True) is None
    assert first_nan(fn).__name__ == "fn"
    assert first_nan(lambda: None)() is None
    assert first_nan(lambda x: x)({}) is None


def test_a_sharded_function_is_one_operation():
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("x",))
    spec = jax.sharding.PartitionSpec("x")
    fn = jax.shard_map(jnp.log, mesh=mesh, in_specs=spec, out_specs=spec)
    assert first_nan(fn)(jnp.abs(X)) is None
    assert first_nan(fn)(X).primitive == "shard_map"
