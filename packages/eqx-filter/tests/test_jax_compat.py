import traceback

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import pytest

import eqx_filter

compat = eqx_filter._jax_compat


class Node:
    def __init__(self, *children):
        self.children = children


jtu.register_pytree_node(Node, lambda node: (node.children, None), lambda _, children: Node(*children))

TREE = {"a": [None, 1, Node(None, (2, None))], "b": (), "c": None}


@pytest.mark.parametrize("registry", [compat._NONE_LEAF, None], ids=["private", "public"])
def test_none_is_a_leaf_in_every_node(monkeypatch, registry):
    monkeypatch.setattr(compat, "_NONE_LEAF", registry)
    leaves, treedef = compat.flatten_with_none(TREE)
    assert leaves == [None, 1, None, 2, None, None]
    back = treedef.unflatten(leaves)
    assert jtu.tree_structure(back) == jtu.tree_structure(TREE)
    assert treedef.flatten_up_to(TREE) == leaves
    assert compat.flatten_with_none(TREE, lambda x: isinstance(x, tuple))[0] == [None, 1, None, (2, None), (), None]
    assert compat.flatten_with_none(None)[0] == [None]


def test_the_private_registry_is_there():
    assert compat._NONE_LEAF is not None


def test_frames_of_ours_are_left_out_of_tracebacks():
    def fails(x):
        return jnp.zeros(2) + jnp.zeros(3)

    before = jax.config.jax_traceback_filtering
    jax.config.update("jax_traceback_filtering", "remove_frames")
    try:
        with pytest.raises(TypeError, match="shapes") as caught:
            eqx_filter.filter_jit(fails)(jnp.ones(2))
    finally:
        jax.config.update("jax_traceback_filtering", before)
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert [frame.name for frame in frames[:3]] == [
        "test_frames_of_ours_are_left_out_of_tracebacks",
        "__call__",
        "fails",
    ]


def test_the_equations_of_the_program_that_is_traced_can_be_seen():
    seen = []

    def fun(x):
        y = jnp.sin(x)
        seen.extend(equation.primitive.name for equation in compat.staged_equations())
        return y

    assert list(compat.staged_equations()) == []
    jax.make_jaxpr(fun)(1.0)
    assert seen == ["sin"]


def test_it_is_known_whether_a_program_is_traced():
    seen = []
    look = jax.vmap(jax.grad(lambda x: (seen.append(compat.in_program()), x)[1]))
    look(jnp.ones(1))
    jax.jit(look)(jnp.ones(1))
    assert (seen, compat.in_program()) == ([False, True], False)


def test_failures_that_say_so_are_kept_out_of_the_log(caplog):
    class OddError(Exception):
        logged_by_jax = False

    for kind, logged in ((OddError, 0), (KeyError, 1)):

        def fail(x, kind=kind):
            raise kind

        with pytest.raises(Exception, match=kind.__name__):
            jax.jit(lambda x, fail=fail: jax.pure_callback(fail, x, x))(jnp.ones(()))
        assert len(caplog.records) == logged


def test_a_lowering_knows_for_how_many_devices_it_is():
    found = []
    primitive = compat.new_primitive("devices")
    primitive.multiple_results = True
    primitive.def_abstract_eval(lambda x: [x])
    compat.define_lowering_for_devices(primitive, lambda x, *, devices: (found.append(devices), [x])[1])
    compat.needs_devices(primitive)
    mesh = jax.sharding.Mesh(jax.devices()[:2], ("i",))
    spread = jax.device_put(jnp.ones(2), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("i")))
    fun = jax.jit(lambda x: primitive.bind(x)[0])
    assert fun(jnp.ones(2)).tolist() == fun(spread).tolist() == [1, 1]
    mapped = jax.shard_map(fun, mesh=mesh, in_specs=jax.P("i"), out_specs=jax.P("i"))
    assert mapped(spread).tolist() == [1, 1]
    assert found == [1, 2, 2]


def doubling(name):
    """A primitive with all rules, made by nothing but the functions for it."""
    seen = []

    def jvp(primals, tangents):
        seen.append(("jvp", compat.is_zero(tangents[0])))
        return double.bind(*primals), double.bind(*tangents)

    def transpose(cotangent, x):
        seen.append(("transpose", compat.is_undefined(x), x.aval.shape))
        return [double.bind(cotangent)]

    def batch(axis, args, places):
        seen.append((axis.size, axis.name, axis.spmd_name, axis.explicit, places[0]))
        return double.bind(*args), places[0]

    double = compat.new_primitive(name)
    double.def_impl(lambda x: 2 * x)
    double.def_abstract_eval(lambda aval: compat.ShapedArray(aval.shape, aval.dtype))
    compat.define_derivatives(double, jvp, transpose)
    compat.define_lowering(double, lambda x: 2 * x)
    compat.define_batching(double, batch)
    return double, seen


def test_a_primitive_follows_the_rules_that_are_defined():
    double, seen = doubling("double")
    assert jax.jit(double.bind)(3.0) == 6.0
    assert jax.grad(lambda x: double.bind(x))(3.0) == 2.0
    assert ("jvp", False) in seen
    assert ("transpose", True, ()) in seen
    seen.clear()
    assert jax.vmap(double.bind, 1, 1)(jnp.ones((2, 3))).shape == (2, 3)
    assert jax.vmap(double.bind, axis_name="i")(jnp.ones(3)).tolist() == [2.0, 2.0, 2.0]
    assert jax.vmap(lambda x: double.bind(jnp.array(1.0)), axis_name="i", out_axes=None)(jnp.ones(3)) == 2.0
    assert seen == [(3, None, None, None, 1), (3, "i", None, None, 0), (3, "i", None, None, None)]


def test_symbolic_zeros_are_told_and_made():
    x = jnp.ones((2, 3))
    zero = compat.zero_tangent(x)
    assert compat.is_zero(zero)
    assert compat.is_zero(None)
    assert compat.is_zero(compat.materialise(compat.zero_tangent(1)))
    assert not compat.is_zero(jnp.zeros(2))
    assert (zero.aval.shape, zero.aval.dtype) == ((2, 3), jnp.float32)
    assert compat.zero_tangent(jnp.arange(3)).aval.dtype == jax.dtypes.float0
    assert compat.materialise(zero).tolist() == [[0.0] * 3] * 2
    entry = compat.zero_like(zero, lambda aval: compat.without_axis(AXIS, 0, aval))
    assert (entry.aval.shape, entry.aval.dtype) == ((3,), jnp.float32)
    assert not compat.is_undefined(x)
    assert compat.is_undefined(compat.UndefinedPrimal(jax.typeof(x)))


AXIS = compat.VmapAxis(2, None, None, None)


def test_types_lose_and_get_axes():
    aval = jax.typeof(jnp.ones((3, 2), jnp.bfloat16))
    assert compat.without_axis(AXIS, None, aval) is aval
    inner = compat.without_axis(AXIS, 1, aval)
    assert (inner.shape, inner.dtype) == ((3,), jnp.bfloat16)
    outer = compat.with_leading_axis(AXIS, aval)
    assert (outer.shape, outer.dtype) == ((2, 3, 2), jnp.bfloat16)
    key = jax.typeof(jax.random.key(0))
    assert compat.with_leading_axis(AXIS, key).shape == (2,)
    assert compat.without_axis(AXIS, 0, compat.with_leading_axis(AXIS, key)) == key


def test_jaxprs_are_told_and_closed():
    closed = jax.make_jaxpr(lambda x: jnp.sin(x))(1.0)
    assert compat.is_jaxpr(closed)
    assert compat.is_jaxpr(closed.jaxpr)
    assert not compat.is_jaxpr("jaxpr")
    assert compat.close_jaxpr(closed) is closed
    assert compat.eval_jaxpr(closed.jaxpr, compat.close_jaxpr(closed.jaxpr).consts, 0.0) == [0.0]


def test_the_primitives_of_jax_are_those_of_its_programs():
    @jax.custom_jvp
    def f(x):
        return jax.lax.stop_gradient(x)

    f.defjvp(lambda primals, tangents: (primals[0], tangents[0]))
    (eqn,) = jax.make_jaxpr(f)(1.0).eqns
    assert eqn.primitive is compat.custom_jvp_call_p
    (inner,) = eqn.params["call_jaxpr"].eqns
    assert inner.primitive is compat.stop_gradient_p


@pytest.mark.parametrize(
    "fn",
    [
        jnp.sin,
        jax.jit(lambda x: x + 1),
        jax.checkpoint(lambda x: x + 1),
        jax.nn.relu,
        lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x),
        lambda x: jax.lax.scan(lambda c, _: (c + 1, c), x, None, length=2),
    ],
)
def test_equations_are_evaluated_one_by_one(fn):
    closed = jax.make_jaxpr(fn)(1.0)
    values = dict(zip(closed.jaxpr.invars, [1.0], strict=True))
    for eqn in closed.eqns:
        args = [atom.val if hasattr(atom, "val") else values[atom] for atom in eqn.invars]
        values.update(zip(eqn.outvars, compat.bind_equation(eqn, args), strict=True))
    out = [values[atom] for atom in closed.jaxpr.outvars]
    assert jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.all(x == y)), out, jax.tree.leaves(fn(1.0))))


def _equation(fn, name, *args):
    return next(eqn for eqn in jax.make_jaxpr(fn)(*args).eqns if eqn.primitive.name == name)


def test_operands_of_a_scan_are_told_apart():
    weight = jnp.ones(2)

    def fn(x, rows):
        return jax.lax.scan(lambda c, row: ((c[0] * weight, c[1] + 1), row), (x, 0), rows)

    eqn = _equation(fn, "scan", jnp.ones(2), (jnp.ones(3), jnp.ones((3, 4))))
    consts, carry, xs = compat.scan_operands(eqn, [var.aval for var in eqn.invars])
    assert [[x.shape for x in group] for group in (consts, carry, xs)] == [[(2,)], [(2,), ()], [(3,), (3, 4)]]


def test_a_compiled_function_may_get_more_operands_and_results():
    eqn = _equation(jax.jit(lambda x: x + 1), "jit", 1.0)
    longer = jax.make_jaxpr(lambda x, y, z: (x + 1, x * y, y - z))(1.0, 2.0, 3.0)
    new = compat.with_more_operands(eqn, longer, 2, 2)
    assert compat.bind_equation(new, [1.0, 2.0, 3.0]) == [2.0, 2.0, -1.0]
    assert compat.bind_equation(eqn, [1.0]) == [2.0]


def test_names_and_transformations_around_an_equation_are_told():
    def fn(x):
        with jax.named_scope("here"):
            return jnp.sin(x)

    assert compat.scopes_of(_equation(fn, "sin", 1.0)) == (("here", False),)
    assert compat.scopes_of(_equation(jax.grad(fn), "cos", 1.0)) == (("jvp", True), ("here", False))
    assert ("transpose", True) in compat.scopes_of(_equation(jax.grad(fn), "mul", 1.0))


def test_the_place_of_an_equation_is_the_users():
    def fn(x):
        return jnp.sin(x)

    file, line, function = compat.frames_of(_equation(lambda x: fn(x), "sin", 1.0))[0]
    assert (file, line) == (__file__, fn.__code__.co_firstlineno + 1)
    assert function.endswith("fn")
