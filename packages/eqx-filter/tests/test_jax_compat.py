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


def test_failures_of_some_class_are_kept_out_of_the_log(caplog):
    class OddError(Exception):
        pass

    compat.keep_failures_out_of_log("OddError")
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
