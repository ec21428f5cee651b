"""The shapes in which solvers, unit systems and layer libraries build on Modules, rebuilt from scratch."""

import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest

import eqx_core as eqx

T = TypeVar("T")


class TestSolvers:
    """Tableaux in class attributes, terms by structure, instances that choose their class."""

    @dataclasses.dataclass(frozen=True)
    class Tableau:
        c: np.ndarray
        implicit: bool = dataclasses.field(init=False)

        def __post_init__(self):
            object.__setattr__(self, "implicit", bool(self.c.sum() > 1))

    def solvers(self):
        class Meta(type(eqx.Module)):
            def __instancecheck__(cls, instance):
                wrapped = getattr(instance, "solver", None)
                return super().__instancecheck__(instance) or (wrapped is not None and isinstance(wrapped, cls))

        class Solver(eqx.Module, Generic[T], metaclass=Meta):
            term_structure: eqx.AbstractClassVar[type]
            interpolation: eqx.AbstractClassVar[Callable]
            scale: eqx.AbstractVar[float]

        class RungeKutta(Solver[T]):
            tableau: eqx.AbstractClassVar[Any]

            def __init_subclass__(cls, **kwargs):
                super().__init_subclass__(**kwargs)
                if "tableau" in vars(cls):
                    cls.term_structure = tuple if cls.tableau.implicit else list

        class Euler(RungeKutta[float]):
            tableau = TestSolvers.Tableau(np.zeros(1))
            interpolation = staticmethod(lambda x: x + 1)
            scale: float = 1.0

        class Wrapping(eqx.Module):
            solver: Any

        return Solver, RungeKutta, Euler, Wrapping

    def test_init_subclass_fills_abstract_class_attributes(self):
        Solver, RungeKutta, Euler, _ = self.solvers()
        assert RungeKutta.__abstractclassvars__ == {"term_structure", "interpolation", "tableau"}
        euler = Euler()
        assert (euler.term_structure, euler.interpolation(1), euler.scale) == (list, 2, 1.0)
        for cls in (Solver, RungeKutta):
            with pytest.raises(TypeError, match="abstract class attributes"):
                cls()
        assert jtu.tree_leaves(euler) == [1.0]

    def test_instance_checks_may_look_through_wrappers(self):
        Solver, RungeKutta, Euler, Wrapping = self.solvers()
        assert isinstance(Wrapping(Euler()), Solver)
        assert isinstance(Wrapping(Euler()), RungeKutta)
        assert not isinstance(Wrapping(1), Solver)
        assert issubclass(Euler, Solver)
        assert not issubclass(Wrapping, Solver)

    def test_a_class_may_return_an_instance_of_another(self):
        class Jumping(eqx.Module):
            inner: Any

        class Meta(type(eqx.Module)):
            def __call__(cls, rtol, jumps=None):
                made = super().__call__(rtol)
                return made if jumps is None else Jumping(made)

        class Controller(eqx.Module, metaclass=Meta):
            rtol: float

        assert type(Controller(0.1)) is Controller
        assert type(Controller(0.1, jumps=1)) is Jumping

    def test_a_static_field_may_hold_functions_and_structures(self):
        class Term(eqx.Module):
            field: Callable = eqx.field(static=True)
            structure: Any = eqx.field(static=True)
            options: dict = eqx.field(static=True, default_factory=dict)

        traces = []

        @jax.jit
        def f(term, x):
            traces.append(term)
            return term.field(x)

        for _ in range(2):
            f(Term(jnp.sin, jtu.tree_structure([1, {"a": 2}]), {"norm": jnp.linalg.norm}), 1.0)
        assert len(traces) == 1


class TestUnits:
    """Converters everywhere, checks in every class, fields set behind the back of the frozen instance."""

    def test_checks_and_converters_meet_in_one_class(self):
        class Base(eqx.Module):
            value: Any = eqx.field(converter=jnp.asarray)
            unit: str = eqx.field(converter=str, static=True, default="m")

            def __check_init__(self):
                if self.value.ndim > 1:
                    raise ValueError("too many dimensions")

        class Length(Base):
            def __check_init__(self):
                if self.unit not in {"m", "km"}:
                    raise ValueError("no length")

            def __add__(self, other):
                return dataclasses.replace(self, value=self.value + other.value)

        assert (Length([1.0]) + Length([2.0])).value.tolist() == [3.0]
        with pytest.raises(ValueError, match="no length"):
            Length(1.0, "s")
        with pytest.raises(ValueError, match="too many"):
            Length([[1.0]])
        assert jax.vmap(lambda q: q + q)(Length([1.0, 2.0])).unit == "m"

    def test_what_object_setattr_adds_is_not_seen_by_transformations(self):
        class A(eqx.Module):
            x: Any

            def norm(self):
                if not hasattr(self, "_norm"):
                    object.__setattr__(self, "_norm", abs(self.x))
                return self._norm

        a = A(jnp.array(-2.0))
        assert a.norm().item() == 2.0
        assert jtu.tree_structure(a) == jtu.tree_structure(A(1.0))

    def test_a_metaclass_may_rewrite_init_and_defaults(self):
        class Meta(type(eqx.Module)):
            def __new__(mcs, name, bases, namespace, **kwargs):
                cls = super().__new__(mcs, name, bases, namespace, **kwargs)
                original = cls.__init__

                @functools.wraps(original)
                def init(self, *args, **kwargs):
                    original(self, *args, **{name: 2 * value for name, value in kwargs.items()})

                cls.__init__ = init
                for field in dataclasses.fields(cls):
                    if field.default is not dataclasses.MISSING:
                        setattr(cls, field.name, field.metadata.get("converter", lambda x: x)(field.default))
                return cls

        class Potential(eqx.Module, metaclass=Meta):
            m: Any = eqx.field(converter=float, default=1)
            n: int = eqx.field(static=True, default=3)

        class Child(Potential):
            k: Any = 5

        assert type(Potential.m) is float
        assert (Potential(m=2).m, Child(k=3).k) == (4.0, 6)
        assert jtu.tree_leaves(Child()) == [1.0, 5]
        assert list(inspect.signature(Child).parameters) == ["m", "n", "k"]

    def test_a_singleton_metaclass_can_be_mixed_in(self):
        class Singleton(type):
            def __call__(cls, *args, **kwargs):
                if "_only" not in vars(cls):
                    type.__setattr__(cls, "_only", super().__call__(*args, **kwargs))
                return cls._only

        class Meta(Singleton, type(eqx.Module)):
            pass

        class A(eqx.Module, metaclass=Meta):
            x: int = 1

        assert A() is A()
        assert jtu.tree_map(lambda x: x + 1, A()).x == 2

    def test_arithmetic_and_array_protocols_may_be_defined(self):
        class Value(eqx.Module):
            x: Any

            def __jax_array__(self):
                return jnp.asarray(self.x)

            def __getattr__(self, name):
                if name.startswith("__"):
                    raise AttributeError(name)
                return getattr(self.x, name)

            __add__ = __radd__ = lambda self, other: Value(operator.add(self.x, getattr(other, "x", other)))

            def __getitem__(self, item):
                return Value(self.x[item])

        value = Value(jnp.arange(3.0))
        assert eqx.is_array_like(value)
        assert not eqx.is_array(value)
        assert (value + value)[1].x.item() == (2.0 + value)[0].x.item() == 2.0
        assert value.shape == (3,)
        assert jax.jit(lambda v: v + v)(value).x.tolist() == [0.0, 2.0, 4.0]
        assert jnp.sin(value).shape == (3,)


class TestLayerLibraries:
    def test_wrapped_fields_carry_metadata_of_their_own(self):
        def field(*, axes=None, **kwargs):
            return eqx.field(metadata={"axes": axes} | kwargs.pop("metadata", {}), **kwargs)

        class Named(eqx.Module):
            weight: Any = field(axes=("in", "out"))
            axis: str = field(static=True, default="in")

        assert dataclasses.fields(Named)[0].metadata["axes"] == ("in", "out")
        assert jtu.tree_leaves(Named(1)) == [1]

    def test_static_constructors_and_keyed_initialisers(self):
        class Linear(eqx.Module):
            weight: Any
            size: tuple[int, ...] = eqx.field(static=True)

            @staticmethod
            def init(size, *, key):
                return Linear(jax.random.normal(key, size), size)

            @classmethod
            def zeros(cls, size):
                return cls(jnp.zeros(size), size)

        stacked = jax.vmap(lambda key: Linear.init((2, 3), key=key))(jax.random.split(jax.random.key(0), 4))
        assert stacked.weight.shape == (4, 2, 3)
        assert stacked.size == (2, 3)
        assert Linear.zeros((1,)).weight.shape == (1,)

        def f(x, layer):
            return x + layer.weight.sum(), None

        total, _ = jax.lax.scan(f, jnp.array(0.0), stacked)
        assert np.allclose(total, stacked.weight.sum(), rtol=1e-5)

    def test_a_registry_of_classes_and_defaults_by_function(self):
        class Block(eqx.Module):
            registry: ClassVar[dict[str, type]] = {}
            norm: Callable | None = None
            act: Callable = jax.nn.gelu

            def __init_subclass__(cls, register=None, **kwargs):
                super().__init_subclass__(**kwargs)
                if register:
                    Block.registry[register] = cls

        class Custom(Block, register="custom", strict=True):
            width: int = eqx.field(static=True, default=2)

        assert Block.registry == {"custom": Custom}
        assert issubclass(Block.registry["custom"], eqx.Module)
        assert Custom().act is jax.nn.gelu
        assert Custom(act=jnp.tanh).act is jnp.tanh

    def test_modules_in_control_flow(self):
        class Layer(eqx.Module):
            w: Any

            def __call__(self, x):
                return self.w * x

        layers = [Layer(jnp.array(float(i))) for i in range(3)]
        scanned, ys = jax.lax.scan(lambda f, x: (f, f(x)), layers[2].__call__.__self__, jnp.arange(3.0))
        assert (ys.tolist(), scanned.w.item()) == ([0.0, 2.0, 4.0], 2.0)

        def loss(layers, index):
            return jax.lax.switch(index, [lambda x, f=f: f(x) for f in layers], 5.0)

        grads = jax.grad(loss)(layers, 1)
        assert [layer.w.item() for layer in grads] == [0.0, 5.0, 0.0]
        assert jax.lax.while_loop(lambda f: f.w < 10, lambda f: Layer(f.w * 2), layers[1]).w.item() == 16.0

    def test_modules_can_be_donated(self):
        class Layer(eqx.Module):
            w: Any
            b: Any

        layer = Layer(jnp.ones(2), jnp.zeros(2))
        out = jax.jit(lambda f: jtu.tree_map(lambda x: x + 1, f), donate_argnums=0)(layer)
        assert out.w.tolist() == [2.0, 2.0]

    def test_surgery_with_structures_none_and_lists(self):
        class Model(eqx.Module):
            layers: list
            head: Any = None

        model = Model([jnp.ones(1), jnp.ones(2)])
        shapes = jax.eval_shape(lambda: model)
        assert shapes.layers[1] == jax.ShapeDtypeStruct((2,), jnp.float32)
        replaced = eqx.tree_at(lambda m: m.head, model, jnp.ones(3), is_leaf=lambda x: x is None)
        assert replaced.head.shape == (3,)
        assert eqx.tree_at(lambda m: m.layers, model, []).layers == []


class TestMixins:
    def test_a_mapping(self):
        class Table(eqx.Module, Mapping):
            entries: dict

            def __getitem__(self, key):
                return self.entries[key]

            def __iter__(self):
                return iter(self.entries)

            def __len__(self):
                return len(self.entries)

        table = Table({"a": 1})
        assert (dict(table), table.get("a"), table.get("b"), "a" in table) == ({"a": 1}, 1, None, True)
        assert jtu.tree_leaves(table) == [1]

    def test_a_protocol_with_a_joint_metaclass(self):
        class Callable_(Protocol):
            def run(self) -> int: ...

        class Meta(type(eqx.Module), type(Protocol)):
            pass

        class A(eqx.Module, Callable_, metaclass=Meta):
            x: int

            def run(self):
                return self.x

        assert A(1).run() == 1
        assert issubclass(A, eqx.Module)

    def test_a_namedtuple_is_a_field_and_a_module_is_in_one(self):
        class Pair(NamedTuple):
            a: Any
            b: Any

        class A(eqx.Module):
            pair: Pair

        assert jtu.tree_leaves(A(Pair(1, A(Pair(2, 3))))) == [1, 2, 3]

    def test_own_equality_hash_and_repr(self):
        class A(eqx.Module):
            x: Any

            def __eq__(self, other):
                return isinstance(other, A)

            def __hash__(self):
                return 0

            def __repr__(self):
                return "an A"

        class B(eqx.Module):
            x: Any

            def __eq__(self, other):
                return True

        assert A(1) == A(2)
        assert {A(1): 3}[A(2)] == 3
        assert repr(A(jnp.ones(2))) == "an A"
        with pytest.raises(TypeError, match="unhashable type: 'B'"):
            hash(B(1))

    def test_deep_hierarchies_of_generics(self):
        class A(eqx.Module, Generic[T]):
            a: T

        class B(A[T]):
            b: T

        class C(B[int]):
            c: int = 3

        assert jtu.tree_leaves(C(1, 2)) == [1, 2, 3]
        assert C.__orig_bases__ == (B[int],)
        assert jtu.tree_structure(B[int](1, 2)) == jtu.tree_structure(B[str](3, 4))
