"""What an older version of a class wrote becomes what the present one reads."""

import io

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_core
import eqx_serialise
from eqx_serialise import migration


def old_classes():
    """Return the classes as they were."""

    class Linear(eqx_core.Module):
        w: jax.Array
        b: jax.Array
        size: int = eqx_core.field(static=True, default=2)

    class Model(eqx_core.Module):
        first: Linear
        layers: list
        rate: float = 0.5
        key: jax.Array | None = None

    return Linear, Model


Linear1, Model1 = old_classes()


class Linear(eqx_core.Module):
    __schema__ = 3

    weight: jax.Array
    bias: jax.Array
    size: int = eqx_core.field(static=True, default=7)  # It counts otherwise than it did.

    @migration(2, 3)
    @staticmethod
    def transpose(leaves):
        return leaves | {"weight": leaves["weight"].T}

    @migration(1, 2)
    @classmethod
    def rename(cls, leaves):
        assert cls is Linear
        return {"weight": leaves.pop("w"), "bias": leaves.pop("b")}


class Model(eqx_core.Module):
    __schema__ = 2

    encoder: Linear
    layers: list
    log_rate: float = 0.0
    key: jax.Array | None = None

    @migration(1, 2)
    def move(leaves):
        assert "first.weight" in leaves  # What is inside has been migrated.
        moved = {name.replace("first", "encoder"): leaf for name, leaf in leaves.items()}
        rate = moved.pop("rate")
        return moved | {"log_rate": float(np.log(rate))}


def old_linear(start):
    return Linear1(jnp.arange(6.0).reshape(2, 3) + start, jnp.full(2, start))


def new_linear():
    return Linear(jnp.zeros((3, 2)), jnp.zeros(2))


def through(tree, like, **kwargs):
    file = io.BytesIO()
    eqx_serialise.save(file, tree)
    file.seek(0)
    return eqx_serialise.load(file, like, **kwargs)


def check_linear(found, start):
    assert type(found) is Linear
    assert isinstance(found.weight, jax.Array)
    np.testing.assert_array_equal(found.weight, np.arange(6.0).reshape(2, 3).T + start)
    np.testing.assert_array_equal(found.bias, np.full(2, start))


def test_migrations_run_in_order():
    check_linear(through(old_linear(1.0), new_linear()), 1.0)


@pytest.mark.parametrize("put", [lambda x: [x], lambda x: {"a": (x,)}, lambda x: {"['": [[x]]}])
def test_paths_are_those_within_the_instance(put):
    found = through(put(old_linear(1.0)), put(new_linear()))
    check_linear(jax.tree.leaves(found, is_leaf=lambda x: isinstance(x, Linear))[0], 1.0)


def old_model():
    return Model1(old_linear(1.0), [old_linear(2.0), None, old_linear(3.0)], 0.25, jr.key(3))


def new_model():
    return Model(new_linear(), [new_linear(), None, new_linear()], 0.0, jr.key(0))


@pytest.mark.parametrize("abstract", [False, True])
@pytest.mark.parametrize("options", [{}, {"mmap": False}, {"verify": False}, {"strict": False}], ids=str)
def test_instances_within_instances_are_migrated_each(abstract, options):
    like = new_model()
    if abstract:
        like = jax.tree.map(lambda x: jax.eval_shape(lambda: x) if eqx_core.is_array(x) else x, like)
    found = through(old_model(), like, **options)
    check_linear(found.encoder, 1.0)
    check_linear(found.layers[0], 2.0)
    check_linear(found.layers[2], 3.0)
    assert found.log_rate == float(np.log(0.25))
    assert (jr.key_data(found.key) == jr.key_data(jr.key(3))).all()


def test_what_is_of_this_version_is_left_alone():
    model = through(old_model(), new_model())
    assert eqx_core.tree_equal(through(model, new_model()), model)


def test_a_file_in_which_only_some_parts_are_old_is_migrated_there():
    found = through([old_linear(1.0), new_linear()], [new_linear(), new_linear()])
    check_linear(found[0], 1.0)
    np.testing.assert_array_equal(found[1].weight, np.zeros((3, 2)))


def test_static_values_of_another_schema_are_not_compared():
    assert through(old_linear(1.0), new_linear()).size == 7
    with pytest.raises(eqx_serialise.CheckpointError, match="size: 7 in the file, 8 in `like`"):
        through(new_linear(), Linear(jnp.zeros((3, 2)), jnp.zeros(2), 8))


def test_a_class_that_was_renamed_is_found_where_it_stands():
    class Dense(Linear):
        @migration(1, 2)
        @staticmethod
        def rename(leaves):
            return {"weight": leaves["w"], "bias": leaves["b"]}

    found = through(old_linear(1.0), Dense(jnp.zeros((3, 2)), jnp.zeros(2)))
    np.testing.assert_array_equal(found.weight, np.arange(6.0).reshape(2, 3).T + 1)


def test_renaming_and_casting_come_after_migrating():
    like = {"a": Linear(jnp.zeros((3, 2), jnp.bfloat16), jnp.zeros(2, jnp.bfloat16))}
    found = through([old_linear(1.0)], like, rename={"[0]": "['a']"}, cast=True)
    assert found["a"].weight.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["a"].bias, jnp.ones(2, jnp.bfloat16))


def test_damage_is_found_before_a_migration_sees_it(saved):
    content = bytearray(saved(old_linear(1.0)))
    content[-1] ^= 1
    with pytest.raises(eqx_serialise.CheckpointError, match=r"other values for `[wb]`"):
        eqx_serialise.load(io.BytesIO(bytes(content)), new_linear())


def test_a_newer_file_is_refused_with_the_class_named():
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        through([{"x": new_linear()}], [{"x": old_linear(0.0)}], strict=False)
    assert str(error.value) == (
        "`load(path_or_file=<BytesIO>)` must not be newer than the code; got `Linear` at `[0]['x']` with schema 3, "
        "where the class `Linear` has schema 1. Update the code that defines it."
    )


def module(schema, function=None, old=1, new=2):
    namespace = {"__schema__": schema, "__annotations__": {"weight": jax.Array}, "__qualname__": "Linear"}
    if function is not None:
        namespace["step"] = migration(old, new)(staticmethod(function))
    return type(eqx_core.Module)("Linear", (eqx_core.Module,), namespace)(jnp.zeros(2))


def test_a_missing_migration_is_named():
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        through([old_linear(1.0)], [module(2)])
    assert "got `Linear` at `[0]` with schema 1, where the class `Linear` has schema 2 and no" in str(error.value)
    assert "Declare one by `@eqx_serialise.migration(1, 2)`." in str(error.value)


def test_a_migration_that_fails_is_named_with_what_it_was_given():
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        through([old_linear(1.0)], [module(2, lambda leaves: leaves["x"])])
    assert "got KeyError in the migration of `Linear` at `[0]` from schema 1 to 2: 'x'. It was given w, b." in str(
        error.value
    )
    assert isinstance(error.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda leaves: None, "a dictionary of leaves by path; got `NoneType` from the migration of `Linear`"),
        (lambda leaves: {1: np.ones(2)}, "a dictionary of leaves by path; got `dict` from"),
        (lambda leaves: {"weight": [1]}, "arrays and Python values; got `list` at `weight` from the migration"),
        (lambda leaves: {"weight": jax.ShapeDtypeStruct((2,), "f4")}, "got `ShapeDtypeStruct` at `weight`"),
        (lambda leaves: {"weight": np.zeros(2)}, "weight: f64[2] in the file, f32[2] in `like`"),
    ],
)
def test_a_migration_that_returns_something_else_is_named(function, found):
    with pytest.raises(eqx_serialise.CheckpointError) as error:
        through([old_linear(1.0)], [module(2, function)])
    assert found in str(error.value)


def test_a_longer_step_is_taken_if_it_does_not_lead_too_far():
    class Linear(eqx_core.Module):
        __schema__ = 4
        weight: jax.Array

        @migration(1, 2)
        @staticmethod
        def one(leaves):
            raise AssertionError

        @migration(1, 4)
        @staticmethod
        def all_at_once(leaves):
            return {"weight": leaves["b"]}

        @migration(1, 5)
        @staticmethod
        def too_far(leaves):
            raise AssertionError

    np.testing.assert_array_equal(through(old_linear(1.0), Linear(jnp.zeros(2))).weight, [1, 1])


def test_a_migration_can_be_called_and_the_decorators_may_stand_the_other_way_round():
    class Scale(eqx_core.Module):
        __schema__ = 2
        x: jax.Array

        @staticmethod
        @migration(1, 2)
        def step(leaves):
            return {"x": leaves["w"][0]}

    assert Linear.rename({"w": 1, "b": 2}) == {"weight": 1, "bias": 2}
    assert Linear.transpose.old == 2
    np.testing.assert_array_equal(through(old_linear(1.0), Scale(jnp.zeros(3))).x, [1, 2, 3])


@pytest.mark.parametrize(("old", "new"), [(0, 1), (1, 1), (2, 1), (1.0, 2), (True, 2), ("1", "2")])
def test_a_migration_that_leads_nowhere_is_refused(old, new):
    with pytest.raises(ValueError, match=r"must lead from a schema of at least 1 to a higher one; got .*Write"):
        migration(old, new)
