"""`debug._marked`: marks are put around calls, and all else about a Module stays."""

import operator
import pickle
import warnings

import jax
import jax.numpy as jnp
import pytest

import eqx_core
import eqx_filter.debug._marked
from eqx_filter import filter_jit

marked, nodes = eqx_filter.debug._marked.marked, eqx_filter.debug._marked.nodes
methods_of = eqx_filter.debug._marked.methods_of

CALLS = []


class Noting:
    """A mark that notes its calls; equal to another of its name."""

    def __init__(self, name):
        self.name = name

    def __call__(self, call):
        CALLS.append(self.name)
        return call()

    def __eq__(self, other):
        return isinstance(other, Noting) and self.name == other.name

    def __hash__(self):
        return hash(self.name)


class Base(eqx_core.Module):
    x: jax.Array
    n: int = eqx_core.field(static=True, default=3)

    def __call__(self, y):
        return self.method(y) + self.prop

    def method(self, y):
        return self.x * y

    @property
    def prop(self):
        return self.n

    @staticmethod
    def static(y):
        return y

    @classmethod
    def new(cls):
        return cls(jnp.zeros(()))

    @filter_jit
    def compiled(self, y):
        return self.x + y


class Child(Base):
    extra: str = "a"

    def __init__(self, x):
        self.x = x

    def __call__(self, y):
        return super().__call__(y) * 2


@pytest.fixture(autouse=True)
def _no_calls_yet():
    CALLS.clear()


def path_of(tree, node):
    return next(path for path, value in nodes(tree) if value is node)


def test_marks_are_around_the_calls_of_that_part_alone():
    tree = [Base(jnp.array(1.0)), Base(jnp.array(2.0))]
    new = marked(tree, {path_of(tree, tree[1]): {"__call__": Noting("a"), "method": Noting("b")}})
    assert [float(each(jnp.array(2.0))) for each in new] == [5, 7]
    assert CALLS == ["a", "b"]
    assert float(new[1].compiled(1.0)) == 3.0


def test_all_else_stays():
    old = Child(jnp.array(2.0))
    new = marked(old, {(): {"__call__": Noting("a")}})
    assert isinstance(new, Child)
    assert (type(new).__name__, type(new).__qualname__, type(new).__module__) == ("Child", "Child", __name__)
    assert (repr(new), new.prop, new.static(3), new.extra) == (repr(old), 3, 3, "a")
    assert float(new(jnp.array(1.0))) == float(old(jnp.array(1.0)))
    assert CALLS == ["a"]
    assert type(old) is Child


@pytest.mark.parametrize("run", [lambda f, x: f(x), filter_jit(lambda f, x: f(x)), jax.jit(lambda f, x: f(x))])
def test_marks_go_through_transformations(run):
    new = marked(Base(jnp.array(2.0)), {(): {"__call__": Noting("a")}})
    assert float(run(jax.tree.map(lambda x: x + 1, new), jnp.array(1.0))) == 6
    assert CALLS == ["a"]


def test_two_are_alike_if_their_marks_are():
    def structure(name):
        return jax.tree.structure(marked(Base(jnp.array(2.0)), {(): {"__call__": Noting(name)}}))

    assert structure("a") == structure("a")
    assert structure("a") != structure("b")
    assert structure("a") != jax.tree.structure(Base(jnp.array(2.0)))


def test_marks_add_up():
    once = marked(Base(jnp.array(2.0)), {(): {"__call__": Noting("inner")}})
    twice = marked(once, {(): {"__call__": Noting("outer"), "method": Noting("method")}})
    assert type(twice).__mro__[1] is Base
    twice(jnp.array(1.0))
    assert CALLS == ["outer", "inner", "method"]


def test_what_is_no_module_is_wrapped():
    tree = {"f": jax.nn.relu}
    new = marked(tree, {path_of(tree, tree["f"]): {"__call__": Noting("f")}})["f"]
    assert float(new(jnp.array(-1.0))) == 0
    assert CALLS == ["f"]
    assert new.__name__ == "relu"
    with pytest.raises(AttributeError):
        _ = new.nothing
    assert pickle.loads(pickle.dumps(marked(max, {(): {"__call__": operator.call}})))(1, 2) == 2


def test_methods_are_those_that_get_the_instance():
    assert methods_of(Child) == ["__call__", "method", "compiled"]


def test_classes_that_warn_when_they_are_made_do_not_warn_again():
    with pytest.warns(UserWarning, match="__post_init__"):

        class Odd(eqx_core.Module):
            x: int

            def __init__(self):
                self.x = 1

            def __post_init__(self):
                pass

            def __call__(self):
                return self.x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert marked(Odd(), {(): {"__call__": Noting("odd")}})() == 1


def test_nothing_to_mark_is_nothing_done():
    tree = [Base(jnp.array(1.0)), None, (), "text"]
    assert marked(tree, {}) is tree
    assert [type(node) for _, node in nodes([None, (), "text"])] == [list, type(None), tuple, str]
