"""Under the alias equinox is eqx: the same objects, whichever way the program is run.

The alias is for a whole process. Tests that ask how it comes about have one of their own; the others share one.
"""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
import textwrap

import pytest

import eqx

needs_equinox = pytest.mark.skipif(importlib.util.find_spec("equinox") is None, reason="equinox is not installed")


def python(*arguments, code=0, folder=None, **env):
    """Run Python and return what it writes to standard output, or to standard error if it is to fail."""
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    env = os.environ | {"JAX_PLATFORMS": "cpu"} | env
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stderr if code else done.stdout


def run(script, **kwargs):
    return python("-c", textwrap.dedent(script), **kwargs)


def run_aliased(script, **kwargs):
    return run("import eqx.equinox_alias\n" + textwrap.dedent(script), **kwargs)


SERVER = """
import contextlib, io, json, sys, traceback
import eqx.equinox_alias

for line in sys.stdin:
    error, output = "", io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(json.loads(line), {"__name__": "__main__", "eqx": eqx})
    except Exception:
        error = traceback.format_exc()
    print(json.dumps([error, output.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def aliased():
    """Return what runs a script in one process with the alias, whose names are gone when the next one runs."""
    command, env = [sys.executable, "-W", "error", "-c", SERVER], os.environ | {"JAX_PLATFORMS": "cpu"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=env, **pipes) as process:

        def ask(script):
            process.stdin.write(json.dumps(textwrap.dedent(script)) + "\n")
            process.stdin.flush()
            error, output = json.loads(process.stdout.readline())
            assert error == ""
            return output

        yield ask
        process.stdin.close()


def test_every_public_name_is_the_same_object(aliased):
    differing = aliased("""
        import importlib, types, equinox, equinox.debug, equinox.internal, equinox.nn
        import eqx, eqx.debug, eqx.internal, eqx.nn
        for part in ("", ".debug", ".internal", ".nn"):
            mine, theirs = importlib.import_module(f"eqx{part}"), importlib.import_module(f"equinox{part}")
            assert getattr(equinox, part[1:] or "nn") is (theirs if part else equinox.nn)
            for name in dir(mine):
                x = getattr(mine, name)
                if not name.startswith("_") and not isinstance(x, types.ModuleType) and getattr(theirs, name) is not x:
                    print(theirs.__name__, name)
            assert set(name for name in dir(mine) if not name.startswith("_")) <= set(dir(theirs))
    """)
    assert differing == ""


def test_a_class_of_one_is_a_class_of_the_other(aliased):
    aliased("""
        import jax, eqx, equinox
        from equinox import *
        from equinox.nn import Linear, MLP
        from equinox.internal import ω
        assert Module is equinox.Module is eqx.Module and tree_at is eqx.tree_at
        class Mine(Module):
            layer: Linear
        mine = Mine(eqx.nn.Linear(2, 3, key=jax.random.key(0)))
        assert isinstance(mine, eqx.Module) and isinstance(mine.layer, equinox.nn.Linear)
        assert issubclass(MLP, equinox.Module) and getattr(equinox.nn, "NoSuchLayer", None) is None
        try:
            equinox.error_if(1.0, True, "too big")
        except eqx.EquinoxRuntimeError as e:
            assert type(e) is equinox.EquinoxRuntimeError or isinstance(e, equinox.EquinoxRuntimeError)
    """)


def test_gradients_cross(aliased):
    """A rule that is written with one name, a model of both and a transformation of the other."""
    aliased("""
        import jax, jax.numpy as jnp, equinox

        class Scale(equinox.Module):
            factor: jax.Array
            layer: eqx.nn.Linear
        @equinox.filter_custom_vjp
        def tripled(x):
            return x.factor * jnp.sum(x.layer(jnp.ones(2)))
        @tripled.def_fwd
        def forward(perturbed, x):
            return tripled(x), None
        @tripled.def_bwd
        def backward(residual, out, perturbed, x):
            return jax.tree.map(lambda leaf: 3 * out * jnp.ones_like(leaf), equinox.filter(x, equinox.is_array))

        model = Scale(jnp.array(2.0), eqx.nn.Linear(2, 1, use_bias=False, key=jax.random.key(0)))
        for grad in (eqx.filter_grad, equinox.filter_grad):
            grads = eqx.filter_jit(grad(tripled))(model)
            assert type(grads) is Scale and type(grads.layer) is equinox.nn.Linear
            assert grads.factor == 3 and grads.layer.weight.tolist() == [[3, 3]]
        assert eqx.tree_equal(equinox.apply_updates(model, grads), jax.tree.map(lambda leaf: leaf + 3, model))
    """)


def test_private_paths_lead_to_the_same_objects(aliased):
    aliased("""
        import collections.abc, jax, jax.numpy as jnp, eqx, eqx.internal
        import equinox._custom_types, equinox.internal._omega, equinox.nn._stateful as stateful
        from equinox._custom_types import sentinel
        from equinox._doc_utils import doc_repr
        from equinox._misc import default_floating_dtype
        from equinox._module import Static, field
        from equinox._module._better_abstract import AbstractVar
        from equinox._module._module import _has_dataclass_init, _ModuleMeta
        from equinox.internal._omega import _Metaω, ω
        from equinox.nn._attention import dot_product_attention, dot_product_attention_weights
        from equinox.nn._misc import named_scope

        assert ω is eqx.internal.ω and isinstance(ω, _Metaω) and _Metaω.__rpow__(ω, 1).ω == 1
        assert stateful.State is eqx.nn.State and doc_repr is eqx.internal.doc_repr
        assert Static is eqx.internal.Static and field is eqx.field and AbstractVar is eqx.AbstractVar
        assert default_floating_dtype() == jnp.float32 and equinox._custom_types.sentinel is sentinel
        assert jnp.allclose(dot_product_attention_weights(jnp.ones((2, 4)), jnp.ones((3, 4))), jnp.full((2, 3), 1 / 3))
        assert dot_product_attention(jnp.ones((2, 4)), jnp.ones((3, 4)), jnp.ones((3, 5))).shape == (2, 5)
        assert named_scope("adding")(lambda x: x + 1)(2) == 3
    """)


def test_the_metaclass_can_be_subclassed_and_asked_for_generated_inits(aliased):
    aliased("""
        import equinox
        from equinox._module import _has_dataclass_init, _ModuleMeta

        answers = {}

        class Meta(_ModuleMeta):
            def __new__(mcs, name, bases, namespace, /, **kwargs):
                cls = super().__new__(mcs, name, bases, namespace, **kwargs)
                answers[name] = _has_dataclass_init[cls]
                return cls

        class Generated(equinox.Module, metaclass=Meta):
            x: int

        class Written(equinox.Module, metaclass=Meta):
            x: int
            def __init__(self):
                self.x = 1

        assert answers == {"Generated": True, "Written": False}
        assert Generated(2).x == 2 and Written().x == 1
        assert int not in _has_dataclass_init and {Generated, Written} <= set(_has_dataclass_init)
        assert len(_has_dataclass_init) == len(set(_has_dataclass_init))
    """)


def test_a_metaclass_can_construct_on_its_own(aliased):
    aliased("""
        import abc, jax, jax.numpy as jnp, equinox
        from equinox._module._module import _currently_initialising, is_abstract_module

        class Fast(type(equinox.Module)):
            def __call__(cls, *args):
                self = cls.__new__(cls)
                _currently_initialising.add(self)
                try:
                    cls.__init__(self, *args)
                finally:
                    _currently_initialising.remove(self)
                return self

        class Point(equinox.Module, metaclass=Fast):
            x: jax.Array
            unit: str = equinox.field(static=True)

        class Abstract(equinox.Module):
            @abc.abstractmethod
            def area(self): ...

        point = Point(jnp.ones(2), "m")
        assert jax.tree.map(lambda x: x + 1, point).x.tolist() == [2, 2]
        assert is_abstract_module(Abstract) and not is_abstract_module(Point)
    """)


def test_the_version_is_that_of_the_interface(aliased):
    major, minor, patch = aliased("import equinox; print(equinox.__version__)").split(".")
    assert (int(major), int(minor), int(patch)) >= (0, 13, 8)


def test_what_is_not_aliased_is_not_there(aliased):
    aliased("""
        import importlib.util
        for name in ("equinox._no_such", "equinox.nn._no_such", "equinox._module._no_such"):
            try:
                __import__(name)
            except ModuleNotFoundError as e:
                assert e.name == name
            else:
                raise AssertionError(name)
        assert importlib.util.find_spec("equinox") is not None
        import equinox
        try:
            equinox.no_such
        except AttributeError as e:
            assert str(e) == "module 'equinox' has no attribute 'no_such': `eqx` stands for it.", e
    """)


def test_two_module_classes_never_meet():
    """Nor is a line of Equinox read, whether it is installed or not."""
    run("""
        import eqx, eqx.equinox_alias, equinox, equinox.internal, equinox.nn
        import gc, sys
        modules = [x for x in gc.get_objects() if isinstance(x, type) and x.__name__ == "Module"]
        assert [x for x in modules if x.__module__.partition(".")[0] in ("equinox", "eqx_core")] == [eqx.Module]
        assert not [n for n, m in sys.modules.items() if "/equinox/" in (getattr(m, "__file__", None) or "")]
    """)


@needs_equinox
def test_it_refuses_when_equinox_is_there_already():
    error = run(
        """
        import equinox, eqx
        assert not issubclass(eqx.Module, equinox.Module)
        import eqx.equinox_alias
        """,
        code=1,
    )
    assert (
        "RuntimeError: `import eqx.equinox_alias` must come before whatever imports equinox; got `equinox` imp" in error
    )
    assert "Make it the first import of the program" in error


def test_importing_eqx_alone_aliases_nothing():
    run("import sys, eqx, eqx.nn, eqx.internal; assert 'equinox' not in sys.modules")


def test_the_alias_is_as_lazy_as_eqx():
    run_aliased("import sys, equinox; equinox.Module; assert 'eqx_nn' not in sys.modules")


def test_pickles_made_under_the_alias_load_without_it(aliased, tmp_path):
    file = tmp_path / "model.pickle"
    aliased(f"""
        import pathlib, pickle, equinox
        model, state = equinox.nn.make_with_state(equinox.nn.BatchNorm)(3, "batch", mode="batch")
        pathlib.Path({str(file)!r}).write_bytes(pickle.dumps((equinox.nn.LayerNorm(3), model, equinox.internal.ω, equinox.field)))
    """)
    assert b"equinox" not in file.read_bytes()
    layer, model, *others = pickle.loads(file.read_bytes())
    assert eqx.tree_equal(layer, eqx.nn.LayerNorm(3))
    assert isinstance(model, eqx.nn.BatchNorm)
    assert others == [eqx.internal.ω, eqx.field]


def test_pickles_that_name_equinox_load_under_the_alias(aliased, tmp_path):
    file = tmp_path / "layer.pickle"
    layer = eqx.nn.LayerNorm(3)
    # In this protocol a class is written as two lines of text.
    data = pickle.dumps((layer, eqx.Module), protocol=2)
    data = data.replace(layer.__class__.__module__.encode(), b"equinox.nn._normalisation")
    file.write_bytes(data.replace(eqx.Module.__module__.encode(), b"equinox._module._module"))
    aliased(f"""
        import pathlib, pickle, eqx
        layer, Module = pickle.loads(pathlib.Path({str(file)!r}).read_bytes())
        assert eqx.tree_equal(layer, eqx.nn.LayerNorm(3)) and Module is eqx.Module
    """)


@needs_equinox
def test_pickles_made_by_equinox_load_under_the_alias(aliased, tmp_path):
    file = tmp_path / "model.pickle"
    make = """
        import pathlib, pickle, jax, equinox
        key = jax.random.key(0)
        model = [equinox.nn.Linear(2, 3, key=key), equinox.nn.Conv2d(1, 2, 3, key=key), equinox.nn.LSTMCell(2, 3, key=key),
                 equinox.nn.LayerNorm(3), equinox.nn.Dropout(0.5), equinox.nn.MultiheadAttention(2, 4, key=key)]
    """
    run(textwrap.dedent(make) + f"pathlib.Path({str(file)!r}).write_bytes(pickle.dumps(model))")
    check = f"assert equinox.tree_equal(pickle.loads(pathlib.Path({str(file)!r}).read_bytes()), model)"
    aliased(textwrap.dedent(make) + check)


PROGRAM = """
import sys
import equinox, eqx
assert __name__ == "__main__" and sys.modules["__main__"].__dict__ is globals()
assert equinox.Module is eqx.Module
import neighbour
print(sys.argv[1:], neighbour.HERE)
sys.exit(int(sys.argv[1]))
"""


def test_programs_run_as_they_would_by_themselves(tmp_path):
    folder = tmp_path / "somewhere"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "neighbour.py").write_text("HERE = 'here'")
    said = "['0', '-m', '--flag'] here\n"
    arguments = ["0", "-m", "--flag"]
    assert python("-m", "eqx.equinox_alias", folder / "program.py", *arguments, folder=tmp_path) == said
    assert python("-m", "eqx.equinox_alias", "-m", "program", *arguments, folder=folder) == said
    assert python("-m", "eqx.equinox_alias", "-c", PROGRAM, *arguments, folder=folder) == said


def test_exit_codes_and_errors_of_programs_pass_through(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "neighbour.py").write_text("HERE = 'here'")
    python("-m", "eqx.equinox_alias", "program.py", "7", folder=tmp_path, code=7)
    python("-m", "eqx.equinox_alias", "-m", "program", "5", folder=tmp_path, code=5)
    assert "ZeroDivisionError" in python("-m", "eqx.equinox_alias", "-c", "1 / 0", code=1)


def test_wrong_usage_is_explained(aliased):
    said = aliased("""
        import sys
        for arguments in ([], ["-m"], ["-c"], ["-q", "program.py"], ["--help"]):
            try:
                eqx.equinox_alias._run(arguments)
            except SystemExit as e:
                print(e.code)
    """)
    usage = "usage: python -m eqx.equinox_alias (-c code | -m module | program.py) [argument ...]\n"
    assert said == 3 * usage + "unknown option -q; options of Python go before -m\n" + 2 * usage


@pytest.mark.parametrize("way", ["-m pytest -p eqx.equinox_alias", "-m eqx.equinox_alias -m pytest"], ids=["-p", "-m"])
def test_suites_run_on_the_alias(tmp_path, way):
    test = "import eqx, equinox\n\n\ndef test_alias():\n    assert equinox.Module is eqx.Module\n"
    (tmp_path / "test_alias.py").write_text(test)
    out = python(*way.split(), "-q", "-p", "no:cacheprovider", "-W", "error", "test_alias.py", folder=tmp_path)
    assert "1 passed" in out


def test_the_jaxtyping_hook_works_under_the_alias(tmp_path):
    pytest.importorskip("beartype")
    (tmp_path / "hooked.py").write_text(
        textwrap.dedent("""
        import equinox
        from jaxtyping import Array, Float

        class Scale(equinox.Module):
            factor: Float[Array, "n"]

            def __call__(self, x: Float[Array, "n"]) -> Float[Array, "n"]:
                return x * self.factor
        """)
    )
    run_aliased(
        """
        import jax.numpy as jnp, jaxtyping
        with jaxtyping.install_import_hook(["hooked", "equinox"], "beartype.beartype"):
            import equinox, hooked
        import eqx
        assert equinox.Module is eqx.Module
        scale = hooked.Scale(jnp.ones(3))
        assert scale(jnp.ones(3)).shape == (3,)
        for wrong in (lambda: hooked.Scale(jnp.ones((3, 3))), lambda: scale(jnp.ones((3, 3)))):
            try:
                wrong()
            except jaxtyping.TypeCheckError:
                pass
            else:
                raise AssertionError("not checked")
        """,
        folder=tmp_path,
    )
