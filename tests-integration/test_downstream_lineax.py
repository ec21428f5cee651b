"""lineax on `eqx.equinox_alias`: every solver, its gradients, and structured operators, against NumPy."""

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
if importlib.util.find_spec("lineax") is None:
    pytest.skip("lineax is not installed", allow_module_level=True)
lx = importlib.import_module("lineax")

POSITIVE = lx.positive_semidefinite_tag
TOLERANCES = {"rtol": 1e-6, "atol": 1e-6}
A = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]], np.float32)
B = np.array([1.0, -2.0, 0.5], np.float32)
TALL = np.array([[1.0, 2.0], [0.5, -1.0], [2.0, 0.3], [0.1, 0.7]], np.float32)
TALL_B = np.array([1.0, 0.5, -0.3, 2.0], np.float32)

SQUARE = {
    "AutoLinearSolver": (lx.AutoLinearSolver(well_posed=True), ()),
    "LU": (lx.LU(), ()),
    "QR": (lx.QR(), ()),
    "SVD": (lx.SVD(), ()),
    "Cholesky": (lx.Cholesky(), (POSITIVE,)),
    "CG": (lx.CG(**TOLERANCES), (POSITIVE,)),
    "GMRES": (lx.GMRES(**TOLERANCES), ()),
    "BiCGStab": (lx.BiCGStab(**TOLERANCES), ()),
    "LSMR": (lx.LSMR(**TOLERANCES), ()),
    "Normal(CG)": (lx.Normal(lx.CG(**TOLERANCES)), ()),
    "Normal(Cholesky)": (lx.Normal(lx.Cholesky()), ()),
}
square = pytest.mark.parametrize("name", SQUARE)


def solve(name, a, b):
    solver, tags = SQUARE[name]
    return lx.linear_solve(lx.MatrixLinearOperator(a, tags), b, solver).value


@square
def test_every_solver_solves(name):
    expected = np.linalg.solve(A, B)
    np.testing.assert_allclose(solve(name, jnp.array(A), jnp.array(B)), expected, rtol=2e-3, atol=1e-4)
    jitted = eqx.filter_jit(solve)(name, jnp.array(A), jnp.array(B))
    np.testing.assert_allclose(jitted, expected, rtol=2e-3, atol=1e-4)


@square
def test_gradients_flow_through_every_solve(name):
    """With x = inv(A) b and the loss sum(x), dloss/db = inv(A).T 1 and dloss/dA = -(dloss/db) x.T."""
    grad_a, grad_b = jax.grad(lambda a, b: jnp.sum(solve(name, a, b)), argnums=(0, 1))(jnp.array(A), jnp.array(B))
    adjoint = np.linalg.solve(A.T, np.ones(3, np.float32))
    np.testing.assert_allclose(grad_b, adjoint, rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(grad_a, -np.outer(adjoint, np.linalg.solve(A, B)), rtol=5e-3, atol=1e-3)


@square
def test_tangents_flow_through_every_solve(name):
    _, tangent = jax.jvp(lambda b: solve(name, jnp.array(A), b), (jnp.array(B),), (jnp.ones(3),))
    np.testing.assert_allclose(tangent, np.linalg.solve(A, np.ones(3, np.float32)), rtol=5e-3, atol=1e-3)


@square
def test_every_solver_maps_over_a_batch(name):
    scales = jnp.array([1.0, 2.0, 5.0])
    batch = jax.vmap(lambda s: solve(name, jnp.array(A) * s, jnp.array(B)))(scales)
    np.testing.assert_allclose(batch, np.linalg.solve(A, B) / np.array(scales)[:, None], rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize(
    "solver", [lx.QR(), lx.SVD(), lx.LSMR(**TOLERANCES), lx.Normal(lx.Cholesky()), lx.AutoLinearSolver(well_posed=None)]
)
def test_least_squares_and_its_gradient(solver):
    def solution(b):
        return lx.linear_solve(lx.MatrixLinearOperator(jnp.array(TALL)), b, solver).value

    np.testing.assert_allclose(solution(jnp.array(TALL_B)), np.linalg.lstsq(TALL, TALL_B)[0], rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(jax.jacrev(solution)(jnp.array(TALL_B)), np.linalg.pinv(TALL), rtol=5e-3, atol=1e-3)


def test_structured_operators_use_their_structure():
    diagonal = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(lx.linear_solve(diagonal, jnp.array(B), lx.Diagonal()).value, B / [1, 2, 4], rtol=1e-6)
    lower = lx.MatrixLinearOperator(jnp.tril(jnp.array(A)), lx.lower_triangular_tag)
    expected = np.linalg.solve(np.tril(A), B)
    np.testing.assert_allclose(lx.linear_solve(lower, jnp.array(B), lx.Triangular()).value, expected, rtol=1e-5)
    bands = lx.TridiagonalLinearOperator(jnp.array([4.0, 3.0, 2.0]), jnp.ones(2), jnp.full(2, 0.5))
    expected = np.linalg.solve(np.array(bands.as_matrix()), B)
    np.testing.assert_allclose(lx.linear_solve(bands, jnp.array(B), lx.Tridiagonal()).value, expected, rtol=1e-5)


def test_gradients_flow_through_structured_solves():
    """With M = inv(A), the derivative of M b towards E is -M E M b; here E is the identity, or b is moved."""
    cases = {
        "diagonal": (lambda s: lx.DiagonalLinearOperator(s + jnp.array([1.0, 2.0, 4.0])), lx.Diagonal()),
        "triangular": (
            lambda s: lx.MatrixLinearOperator(jnp.tril(A) + s * jnp.eye(3), lx.lower_triangular_tag),
            lx.Triangular(),
        ),
        "tridiagonal": (
            lambda s: lx.TridiagonalLinearOperator(s + jnp.array([4.0, 3.0, 2.0]), jnp.ones(2), jnp.full(2, 0.5)),
            lx.Tridiagonal(),
        ),
    }
    for make, solver in cases.values():

        def solution(s, b, make=make, solver=solver):
            return lx.linear_solve(make(s), b, solver).value

        zero, b = jnp.array(0.0), jnp.array(B)
        inverse = np.linalg.inv(np.array(make(zero).as_matrix()))
        to_s, to_b = jax.jacrev(solution, argnums=(0, 1))(zero, b)
        np.testing.assert_allclose(to_s, -inverse @ inverse @ B, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(to_b, inverse, rtol=1e-4, atol=1e-5)


def test_composed_operators_and_tangents_of_whole_operators():
    twice = lx.MatrixLinearOperator(jnp.array(A)) @ lx.MatrixLinearOperator(jnp.array(A).T) / 2.0
    expected = np.linalg.solve(A @ A.T / 2, B)
    np.testing.assert_allclose(lx.linear_solve(twice, jnp.array(B)).value, expected, rtol=1e-3)

    def solution(operator):
        return lx.linear_solve(operator, jnp.array(B), lx.LU()).value

    operator = lx.MatrixLinearOperator(jnp.array(A))
    _, tangent = eqx.filter_jvp(solution, (operator,), (lx.MatrixLinearOperator(jnp.eye(3)),))
    inverse = np.linalg.inv(A)
    np.testing.assert_allclose(tangent, -inverse @ inverse @ B, rtol=1e-3, atol=1e-5)


def test_operators_of_trees_and_of_jacobians():
    tree = {"x": jnp.array([1.0, 2.0]), "y": jnp.array(3.0)}
    operator = lx.FunctionLinearOperator(lambda t: jax.tree.map(lambda v: 2.0 * v, t), jax.eval_shape(lambda: tree))
    solution = lx.linear_solve(operator, tree, lx.GMRES(**TOLERANCES)).value
    assert eqx.tree_equal(solution, jax.tree.map(lambda v: v / 2, tree), rtol=1e-4, atol=1e-4)

    jacobian = lx.JacobianLinearOperator(lambda x, args: jnp.sin(x) + 2 * x, jnp.array(B))
    step = lx.linear_solve(jacobian, jnp.ones(3), lx.AutoLinearSolver(well_posed=True)).value
    np.testing.assert_allclose(step, 1 / (np.cos(B) + 2), rtol=1e-5)


def test_a_failed_solve_raises_an_error_that_both_names_catch():
    import equinox

    singular = lx.MatrixLinearOperator(jnp.zeros((2, 2)))
    with pytest.raises(equinox.EquinoxRuntimeError, match="singular") as caught:
        jax.block_until_ready(lx.linear_solve(singular, jnp.ones(2), lx.LU()).value)
    assert isinstance(caught.value, eqx.EquinoxRuntimeError)
    quiet = lx.linear_solve(singular, jnp.ones(2), lx.LU(), throw=False)
    assert quiet.result == lx.RESULTS.singular
    assert quiet.result != lx.RESULTS.successful


def test_operators_are_modules_and_can_be_learnt():
    operator = lx.MatrixLinearOperator(jnp.array(A), POSITIVE) + 0.1 * lx.IdentityLinearOperator(
        jax.ShapeDtypeStruct((3,), jnp.float32)
    )
    assert isinstance(operator, eqx.Module)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(operator):
        return jnp.sum((lx.linear_solve(operator, jnp.array(B), lx.LU()).value - jnp.array([0.5, -1.0, 0.2])) ** 2)

    before, _ = loss(operator)
    for _ in range(50):
        _, grad = loss(operator)
        operator = eqx.apply_updates(operator, jax.tree.map(lambda g: -0.5 * g, grad))
    assert loss(operator)[0] < before / 10


def test_solver_state_is_reused():
    operator = lx.MatrixLinearOperator(jnp.array(A))
    solver = lx.LU()
    state = solver.init(operator, {})
    for key in jr.split(jr.key(0), 2):
        b = jr.normal(key, (3,))
        np.testing.assert_allclose(
            lx.linear_solve(operator, b, solver, state=state).value,
            np.linalg.solve(A, np.array(b)),
            rtol=1e-4,
            atol=1e-5,
        )
