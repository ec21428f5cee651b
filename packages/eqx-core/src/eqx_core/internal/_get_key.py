"""Give tests fresh random keys: `GetKey`."""

import os
import secrets

import jax
import jax.random as jr

_VARIABLE = "EQX_GETKEY_SEED"


class GetKey:
    """Return a new PRNG key at each call: a fixture for tests.

    The `n`-th call gives `jr.fold_in(jr.PRNGKey(seed), n)`, counted from 1. Print the object to see which seed a failing
    test has used.

    Args:
      seed: An integer. If it is not given, the environment variable `EQX_GETKEY_SEED`; if that is not set, at random.

    Raises:
      TypeError: `seed` is not an integer.
      ValueError: `EQX_GETKEY_SEED` is not an integer.

    Example:
      >>> from eqx_core.internal import GetKey
      >>> get_key = GetKey(0)
      >>> jr.normal(get_key(), ()) == jr.normal(get_key(), ())
      Array(False, dtype=bool)
    """

    def __init__(self, seed: int | None = None):
        if seed is None:
            seed = _seed_from_environment()
        elif isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(
                f"`GetKey(seed=...)` must be an integer; got `{type(seed).__name__}`. "
                f"Leave it out to use {_VARIABLE} or a random seed."
            )
        self.seed = seed
        self.call = 0
        self.key = jr.PRNGKey(seed)

    def __call__(self) -> jax.Array:
        self.call += 1
        return jr.fold_in(self.key, self.call)

    def __repr__(self) -> str:
        return f"GetKey(seed={self.seed}, call={self.call}, key={self.key!r})"


def _seed_from_environment() -> int:
    text = os.environ.get(_VARIABLE)
    if text is None:
        return secrets.randbits(31)
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"`GetKey()` must find an integer in the environment variable {_VARIABLE}; got {text!r}. "
            "Set it to a seed, or unset it for a random one."
        ) from None
