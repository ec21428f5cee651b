"""diffrax on `eqx.equinox_alias`: ordinary, stochastic and controlled equations, every adjoint, events, and a neural ODE."""

import importlib
import importlib.util
import sys

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("diffrax") is None:
    pytest.skip("diffrax is not installed", allow_module_level=True)
diffrax = importlib.import_module("diffrax")
optax = pytest.importorskip("optax")

CONTROLLER = diffrax.PIDController(rtol=1e-5, atol=1e-5)
DECAY = diffrax.ODETerm(lambda t, y, rate: -rate * y)
RATE = jnp.array(2.0)


def decay(rate, solver=None, adjoint=None, **kwargs):
    """Return y(1) of dy/dt = -rate y from y(0) = 1: exp(-rate)."""
    solver = diffrax.Tsit5() if solver is None else solver
    adjoint = diffrax.RecursiveCheckpointAdjoint() if adjoint is None else adjoint
    kwargs = {"stepsize_controller": CONTROLLER, "dt0": 0.1} | kwargs
    y0 = jnp.array(1.0)
    return diffrax.diffeqsolve(DECAY, solver, 0.0, 1.0, y0=y0, args=rate, adjoint=adjoint, **kwargs).ys[0]


@pytest.mark.parametrize(
    "solver",
    ["Bosh3", "Tsit5", "Dopri5", "Dopri8", "Kvaerno3", "Kvaerno5", "Heun", "Midpoint", "Ralston"],
)
def test_adaptive_solvers_solve_and_differentiate(solver):
    y, slope = eqx.filter_jit(jax.value_and_grad(decay))(RATE, getattr(diffrax, solver)())
    np.testing.assert_allclose(y, np.exp(-2), rtol=1e-3)
    np.testing.assert_allclose(slope, -np.exp(-2), rtol=1e-3)


@pytest.mark.parametrize("solver", ["Euler", "ImplicitEuler", "LeapfrogMidpoint", "ReversibleHeun"])
def test_fixed_steps(solver):
    controller = diffrax.ConstantStepSize()
    if solver == "ImplicitEuler":
        import optimistix

        chosen = diffrax.ImplicitEuler(root_finder=optimistix.Newton(rtol=1e-5, atol=1e-5))
    else:
        chosen = getattr(diffrax, solver)()
    y = decay(RATE, chosen, stepsize_controller=controller, dt0=1e-3)
    np.testing.assert_allclose(y, np.exp(-2), rtol=5e-3)


ADJOINTS = {
    "RecursiveCheckpoint": diffrax.RecursiveCheckpointAdjoint(),
    "RecursiveCheckpoint(3)": diffrax.RecursiveCheckpointAdjoint(checkpoints=3),
    "Direct": diffrax.DirectAdjoint(),
    "Backsolve": diffrax.BacksolveAdjoint(),
}


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_every_adjoint_gives_the_derivative(adjoint):
    slope = jax.jit(jax.grad(lambda rate: decay(rate, adjoint=ADJOINTS[adjoint], max_steps=64)))(RATE)
    np.testing.assert_allclose(slope, -np.exp(-2), rtol=1e-3)


def test_implicit_explicit_pairs():
    terms = diffrax.MultiTerm(
        diffrax.ODETerm(lambda t, y, rate: -0.5 * rate * y), diffrax.ODETerm(lambda t, y, rate: -0.5 * rate * y)
    )
    solution = diffrax.diffeqsolve(
        terms, diffrax.KenCarp4(), 0.0, 1.0, 0.1, jnp.array(1.0), RATE, stepsize_controller=CONTROLLER
    )
    np.testing.assert_allclose(solution.ys[0], np.exp(-2), rtol=1e-3)


def test_forward_mode():
    slope = jax.jvp(lambda rate: decay(rate, adjoint=diffrax.ForwardMode()), (RATE,), (jnp.array(1.0),))[1]
    np.testing.assert_allclose(slope, -np.exp(-2), rtol=1e-3)


def test_second_derivatives():
    slope = jax.grad(jax.grad(lambda rate: decay(rate, adjoint=diffrax.DirectAdjoint(), max_steps=32)))(RATE)
    np.testing.assert_allclose(slope, np.exp(-2), rtol=1e-2)


def test_a_batch_of_equations_is_solved_at_once():
    rates = jnp.array([0.5, 1.0, 3.0])
    slopes = jax.jit(jax.vmap(jax.grad(decay)))(rates)
    np.testing.assert_allclose(slopes, -np.exp(-np.array(rates)), rtol=1e-3)


def test_output_at_times_in_steps_and_in_between():
    ts = jnp.linspace(0.0, 1.0, 5)
    save = diffrax.SaveAt(ts=ts, dense=True)
    solution = diffrax.diffeqsolve(
        DECAY, diffrax.Dopri5(), 0.0, 1.0, 0.1, jnp.array(1.0), RATE, saveat=save, stepsize_controller=CONTROLLER
    )
    np.testing.assert_allclose(solution.ys, np.exp(-2 * np.array(ts)), rtol=1e-3)
    np.testing.assert_allclose(solution.evaluate(0.33), np.exp(-0.66), rtol=1e-3)
    steps = diffrax.diffeqsolve(
        DECAY, diffrax.Dopri5(), 0.0, 1.0, 0.1, jnp.array(1.0), RATE, saveat=diffrax.SaveAt(steps=True), max_steps=64
    )
    assert np.isfinite(steps.ts).sum() == steps.stats["num_accepted_steps"]
    np.testing.assert_allclose(steps.ys[:5], np.exp(-2 * np.array(steps.ts[:5])), rtol=1e-3)


def test_several_outputs_of_a_tree():
    term = diffrax.ODETerm(lambda t, y, args: {"x": y["v"], "v": -y["x"]})
    save = diffrax.SaveAt(
        subs=[
            diffrax.SubSaveAt(t1=True),
            diffrax.SubSaveAt(ts=jnp.array([0.5, 1.0]), fn=lambda t, y, args: y["x"] ** 2 + y["v"] ** 2),
        ]
    )
    y0 = {"x": jnp.array(1.0), "v": jnp.array(0.0)}
    solution = diffrax.diffeqsolve(
        term, diffrax.Tsit5(), 0.0, 1.0, 0.1, y0, saveat=save, stepsize_controller=CONTROLLER
    )
    last, energy = solution.ys
    np.testing.assert_allclose(last["x"][0], np.cos(1.0), rtol=1e-3)
    np.testing.assert_allclose(energy, 1.0, rtol=1e-3)


def fall(height, adjoint):
    """Return when a ball that is dropped from `height` reaches the ground: sqrt(2 height / 9.81)."""
    import optimistix

    term = diffrax.ODETerm(lambda t, y, args: jnp.array([y[1], -9.81]))
    event = diffrax.Event(lambda t, y, args, **kwargs: y[0], optimistix.Newton(1e-5, 1e-5))
    solution = diffrax.diffeqsolve(
        term, diffrax.Tsit5(), 0.0, 10.0, 0.1, jnp.stack([height, 0.0 * height]), event=event, adjoint=adjoint
    )
    return solution.ts[0]


def test_events_stop_the_solve_and_are_differentiated():
    time, slope = jax.value_and_grad(lambda h: fall(h, diffrax.RecursiveCheckpointAdjoint()))(jnp.array(5.0))
    np.testing.assert_allclose(time, np.sqrt(10 / 9.81), rtol=1e-3)
    np.testing.assert_allclose(slope, 1 / np.sqrt(10 * 9.81), rtol=1e-2)


def test_steady_states_and_their_derivative():
    def steady(rate):
        term = diffrax.ODETerm(lambda t, y, rate: 1.0 - rate * y)
        event = diffrax.Event(diffrax.steady_state_event(rtol=1e-4, atol=1e-5))
        solution = diffrax.diffeqsolve(
            term,
            diffrax.Tsit5(),
            0.0,
            jnp.inf,
            0.1,
            jnp.array(0.0),
            rate,
            event=event,
            stepsize_controller=CONTROLLER,
            adjoint=diffrax.ImplicitAdjoint(),
            max_steps=None,
        )
        return solution.ys[0]

    y, slope = jax.value_and_grad(steady)(RATE)
    np.testing.assert_allclose(y, 0.5, rtol=1e-2)
    np.testing.assert_allclose(slope, -0.25, rtol=2e-2)


@pytest.mark.parametrize("solver", ["Euler", "EulerHeun", "ItoMilstein", "SPaRK", "ShARK"])
def test_stochastic_equations(solver):
    """With noise of size 0 the solution is that of the ordinary equation; with noise, two keys differ."""

    def solve(key, size):
        tree = diffrax.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(), key=key, levy_area=diffrax.SpaceTimeLevyArea)
        noise = diffrax.ControlTerm(lambda t, y, args: size, tree)
        terms = diffrax.MultiTerm(DECAY, noise)
        return diffrax.diffeqsolve(terms, getattr(diffrax, solver)(), 0.0, 1.0, 0.01, jnp.array(1.0), RATE).ys[0]

    np.testing.assert_allclose(solve(jr.key(0), jnp.array(0.0)), np.exp(-2), rtol=3e-2)
    ends = jax.vmap(solve, in_axes=(0, None))(jr.split(jr.key(1), 3), jnp.array(0.5))
    assert len(set(ends.tolist())) == 3


@pytest.mark.parametrize("adjoint", ["RecursiveCheckpoint", "Direct"])
def test_stochastic_equations_are_differentiated(adjoint):
    """With additive noise W, d y(1) / d size is the same in whatever size; compare with a finite difference."""

    def solve(size):
        tree = diffrax.VirtualBrownianTree(0.0, 1.0, tol=1e-3, shape=(), key=jr.key(2))
        noise = diffrax.ControlTerm(lambda t, y, args: size, tree)
        terms = diffrax.MultiTerm(DECAY, noise)
        return diffrax.diffeqsolve(
            terms, diffrax.Euler(), 0.0, 1.0, 0.05, jnp.array(1.0), RATE, adjoint=ADJOINTS[adjoint], max_steps=32
        ).ys[0]

    slope = jax.grad(solve)(jnp.array(0.5))
    np.testing.assert_allclose(slope, solve(jnp.array(1.5)) - solve(jnp.array(0.5)), rtol=1e-3)


def test_controlled_equations():
    """dy = y dx along x(t) = sin(t) has the solution exp(sin(t))."""
    ts = jnp.linspace(0.0, 2.0, 200)
    xs = jnp.stack([ts, jnp.sin(ts)], axis=-1)
    control = diffrax.CubicInterpolation(ts, diffrax.backward_hermite_coefficients(ts, xs))
    term = diffrax.ControlTerm(lambda t, y, args: jnp.stack([0.0 * y, y]), control).to_ode()
    y0 = jnp.array(1.0)
    solution = diffrax.diffeqsolve(term, diffrax.Tsit5(), 0.0, 2.0, 0.1, y0, stepsize_controller=CONTROLLER)
    np.testing.assert_allclose(solution.ys[0], np.exp(np.sin(2.0)), rtol=1e-2)


class Field(eqx.Module):
    mlp: eqx.nn.MLP

    def __call__(self, t, y, args):
        return self.mlp(y)


@pytest.mark.parametrize("adjoint", ["RecursiveCheckpoint", "Backsolve"])
def test_a_neural_ode_learns(adjoint):
    ts = jnp.linspace(0.0, 1.0, 6)
    truth = jnp.stack([jnp.cos(ts), jnp.sin(ts)], axis=-1)
    model = Field(eqx.nn.MLP(2, 2, 8, 1, jax.nn.tanh, key=jr.key(0)))
    optimiser = optax.adam(2e-2)

    @eqx.filter_value_and_grad
    def loss(model):
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(model),
            diffrax.Tsit5(),
            0.0,
            1.0,
            0.2,
            truth[0],
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=1e-3, atol=1e-4),
            adjoint=ADJOINTS[adjoint],
            max_steps=64,
        )
        return jnp.mean((solution.ys - truth) ** 2)

    @eqx.filter_jit
    def step(model, state):
        value, grad = loss(model)
        with jax.numpy_dtype_promotion("standard"):  # As optax needs.
            updates, state = optimiser.update(grad, state)
        return eqx.apply_updates(model, updates), state, value

    state = optimiser.init(eqx.filter(model, eqx.is_inexact_array))
    values = []
    for _ in range(60):
        model, state, value = step(model, state)
        values.append(float(value))
    assert values[-1] < values[0] / 20


def test_too_many_steps_are_an_error_that_both_names_catch():
    import equinox

    with pytest.raises(equinox.EquinoxRuntimeError, match="maximum number of solver steps") as caught:
        jax.block_until_ready(decay(RATE, max_steps=2, dt0=1e-4))
    assert isinstance(caught.value, eqx.EquinoxRuntimeError)
    solution = diffrax.diffeqsolve(
        DECAY, diffrax.Euler(), 0.0, 1.0, 0.1, jnp.array(1.0), RATE, max_steps=2, throw=False
    )
    assert solution.result == diffrax.RESULTS.max_steps_reached


def test_solvers_and_solutions_are_modules():
    assert isinstance(diffrax.Tsit5(), eqx.Module)
    assert type(diffrax.ODETerm(None)).__mro__[-1] is object
    assert isinstance(diffrax.HalfSolver(diffrax.Euler()), diffrax.AbstractAdaptiveSolver)


def test_it_is_traced_once():
    traced = eqx.debug.assert_max_traces(decay, max_traces=1)
    run = eqx.filter_jit(lambda rate: traced(rate))
    run(RATE)
    run(RATE + 1)
    assert eqx.debug.get_num_traces(traced) == 1


def test_progress_meters_report(capfd):
    jax.block_until_ready(decay(RATE, progress_meter=diffrax.TextProgressMeter()))
    jax.effects_barrier()
    assert "100.00%" in capfd.readouterr().out
