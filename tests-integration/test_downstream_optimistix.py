"""optimistix on `eqx.equinox_alias`: every kind of problem and solver, with implicit and checkpointed adjoints."""

import importlib
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("optimistix") is None:
    pytest.skip("optimistix is not installed", allow_module_level=True)
optx = importlib.import_module("optimistix")
optax = pytest.importorskip("optax")

TOL = {"rtol": 1e-6, "atol": 1e-6}
ADJOINTS = {"implicit": optx.ImplicitAdjoint(), "checkpointed": optx.RecursiveCheckpointAdjoint()}
each_adjoint = pytest.mark.parametrize("adjoint", ADJOINTS)

ROOT_FINDERS = {
    "Newton": optx.Newton(**TOL),
    "Chord": optx.Chord(**TOL),
    "Bisection": optx.Bisection(**TOL),
    "LevenbergMarquardt": optx.LevenbergMarquardt(rtol=1e-4, atol=1e-4),
    "BestSoFar": optx.BestSoFarRootFinder(optx.Newton(**TOL)),
}
LEAST_SQUARES = {
    "GaussNewton": optx.GaussNewton(**TOL),
    "LevenbergMarquardt": optx.LevenbergMarquardt(**TOL),
    "IndirectLevenbergMarquardt": optx.IndirectLevenbergMarquardt(**TOL),
    "Dogleg": optx.Dogleg(**TOL),
    "BestSoFar": optx.BestSoFarLeastSquares(optx.LevenbergMarquardt(**TOL)),
}
MINIMISERS = {
    "BFGS": optx.BFGS(**TOL),
    "DFP": optx.DFP(**TOL),
    "LBFGS": optx.LBFGS(**TOL),
    "NonlinearCG": optx.NonlinearCG(**TOL),
    "GradientDescent": optx.GradientDescent(learning_rate=0.1, rtol=1e-7, atol=1e-7),
    "NelderMead": optx.NelderMead(**TOL),
    "OptaxMinimiser": optx.OptaxMinimiser(optax.adam(0.05), **TOL),
    "BestSoFar": optx.BestSoFarMinimiser(optx.BFGS(**TOL)),
}


def cube_root(a, finder="Newton", adjoint="implicit"):
    options = {"lower": 0.5, "upper": 4.0} if finder == "Bisection" else {}

    def residual(y, a):
        return y**3 - a

    start = jnp.array(2.0)
    solver, adjoint = ROOT_FINDERS[finder], ADJOINTS[adjoint]
    return optx.root_find(residual, solver, start, a, options=options, adjoint=adjoint, max_steps=512).value


@pytest.mark.parametrize("finder", ROOT_FINDERS)
def test_every_root_finder_finds_the_root_and_its_derivative(finder):
    root, slope = eqx.filter_jit(jax.value_and_grad(cube_root))(jnp.array(3.0), finder)
    np.testing.assert_allclose(root, np.cbrt(3.0), rtol=1e-3)
    np.testing.assert_allclose(slope, np.cbrt(3.0) ** -2 / 3, rtol=5e-3)


def test_a_root_is_also_a_minimum():
    solver = optx.BFGS(rtol=1e-4, atol=1e-4)
    root = optx.root_find(lambda y, a: y**3 - a, solver, jnp.array(2.0), jnp.array(3.0), max_steps=512).value
    np.testing.assert_allclose(root, np.cbrt(3.0), rtol=1e-3)


@each_adjoint
def test_roots_have_derivatives_in_a_batch(adjoint):
    a = jnp.array([1.0, 2.0, 8.0])
    slopes = jax.vmap(jax.grad(lambda a: cube_root(a, adjoint=adjoint)))(a)
    np.testing.assert_allclose(slopes, np.cbrt(a) ** -2 / 3, rtol=1e-3)


@each_adjoint
def test_fixed_points_of_trees(adjoint):
    """y = cos(a y) / 2 in both leaves; dy/da from the implicit function theorem."""

    def fixed_point(a):
        start = {"x": jnp.zeros(2), "y": jnp.array(0.0)}

        def step(y, a):
            return jax.tree.map(lambda v: jnp.cos(a * v) / 2, y)

        solver = optx.FixedPointIteration(**TOL)
        return optx.fixed_point(step, solver, start, a, adjoint=ADJOINTS[adjoint]).value["y"]

    y, slope = jax.value_and_grad(fixed_point)(jnp.array(1.0))
    np.testing.assert_allclose(y, np.cos(y) / 2, rtol=1e-4)
    np.testing.assert_allclose(slope, -np.sin(y) * y / (2 + np.sin(y)), rtol=1e-3)


X = jnp.linspace(0.0, 2.0, 12)


class Curve(eqx.Module):
    rate: jax.Array
    scale: jax.Array
    name: str = eqx.field(static=True, default="exponential")

    def __call__(self, x):
        return self.scale * jnp.exp(-self.rate * x)


def fit(data, solver, adjoint="implicit"):
    def residual(curve, data):
        return curve(X) - data

    start = Curve(jnp.array(1.0), jnp.array(1.0))
    return optx.least_squares(residual, solver, start, data, adjoint=ADJOINTS[adjoint], max_steps=64).value


@pytest.mark.parametrize("name", LEAST_SQUARES)
def test_every_least_squares_solver_fits_a_module(name):
    curve = eqx.filter_jit(fit)(2.0 * jnp.exp(-0.7 * X), LEAST_SQUARES[name])
    assert isinstance(curve, Curve)
    np.testing.assert_allclose([curve.rate, curve.scale], [0.7, 2.0], rtol=1e-3)


@each_adjoint
def test_fits_have_derivatives(adjoint):
    """Data that are twice as high give twice the scale and the same rate."""
    data = 2.0 * jnp.exp(-0.7 * X)
    solver = optx.LevenbergMarquardt(**TOL)
    _, tangent = jax.jvp(lambda data: eqx.filter(fit(data, solver), eqx.is_array), (data,), (data,))
    np.testing.assert_allclose(tangent.scale, 2.0, rtol=1e-2)
    np.testing.assert_allclose(tangent.rate, 0.0, atol=1e-2)


@each_adjoint
def test_fits_have_gradients(adjoint):
    data = 2.0 * jnp.exp(-0.7 * X)
    grad = jax.grad(lambda data: fit(data, optx.LevenbergMarquardt(**TOL), adjoint).scale)(data)
    np.testing.assert_allclose(jnp.sum(grad * data), 2.0, rtol=1e-2)


def bowl(y, centre):
    return jnp.sum((y["a"] - centre) ** 2) + 2 * jnp.sum((y["b"] + centre) ** 2) + 0.1 * jnp.sum(y["a"] ** 4)


@pytest.mark.parametrize("name", MINIMISERS)
def test_every_minimiser_finds_the_minimum(name):
    start = {"a": jnp.array([0.5, 1.0]), "b": jnp.array(0.3)}
    with jax.numpy_dtype_promotion("standard"):  # As optax needs.
        solution = optx.minimise(bowl, MINIMISERS[name], start, jnp.array(1.0), max_steps=4000)
    assert solution.result == optx.RESULTS.successful
    # The root of 2 (a - 1) + 0.4 a**3.
    np.testing.assert_allclose(solution.value["a"], [0.8698] * 2, atol=5e-3)
    np.testing.assert_allclose(solution.value["b"], -1.0, atol=5e-3)


def test_the_best_fixed_point_and_the_minimum_of_an_interval():
    solver = optx.BestSoFarFixedPoint(optx.FixedPointIteration(**TOL))
    y = optx.fixed_point(lambda y, _: jnp.cos(y) / 2, solver, jnp.array(0.0)).value
    np.testing.assert_allclose(y, np.cos(y) / 2, rtol=1e-4)
    search = optx.GoldenSearch(rtol=1e-4, atol=1e-4)
    options = {"lower": jnp.array(-1.0), "upper": jnp.array(2.0)}
    lowest = optx.minimise(lambda y, _: (y - 0.7) ** 2, search, jnp.array(0.0), options=options).value
    np.testing.assert_allclose(lowest, 0.7, atol=1e-2)


@each_adjoint
def test_minima_have_gradients(adjoint):
    def minimum(centre):
        start = {"a": jnp.array([0.5, 1.0]), "b": jnp.array(0.3)}
        return optx.minimise(bowl, optx.BFGS(**TOL), start, centre, adjoint=ADJOINTS[adjoint]).value["b"]

    np.testing.assert_allclose(jax.grad(minimum)(jnp.array(1.0)), -1.0, rtol=2e-2)


def test_failure_is_an_error_that_both_names_catch():
    import equinox

    with pytest.raises(equinox.EquinoxRuntimeError) as caught:
        jax.block_until_ready(optx.root_find(lambda y, _: y**2 + 1, optx.Newton(**TOL), jnp.array(0.3)).value)
    assert isinstance(caught.value, eqx.EquinoxRuntimeError)
    solution = optx.root_find(lambda y, _: y**2 + 1, optx.Newton(**TOL), jnp.array(0.3), throw=False)
    assert solution.result != optx.RESULTS.successful
    assert "maximum number of steps" in optx.RESULTS[solution.result]


def test_an_interactive_loop_goes_through_jit():
    """`init`, `step` and `terminate` by hand, with the state of the solver as an argument of compiled functions."""
    solver = optx.BFGS(**TOL)

    def fn(y, args):
        return (jnp.sum((y - args) ** 2), None)

    y, args, options, tags = jnp.zeros(2), jnp.array([1.0, 2.0]), {}, frozenset()
    f_struct, aux_struct = jax.ShapeDtypeStruct((), jnp.float32), None
    state = solver.init(fn, y, args, options, f_struct, aux_struct, tags)
    step = eqx.filter_jit(eqx.Partial(solver.step, fn=fn, args=args, options=options, tags=tags))
    terminate = eqx.filter_jit(eqx.Partial(solver.terminate, fn=fn, args=args, options=options, tags=tags))
    for _ in range(50):
        done, _ = terminate(y=y, state=state)
        if done:
            break
        y, state, _ = step(y=y, state=state)
    np.testing.assert_allclose(y, args, rtol=1e-3)
