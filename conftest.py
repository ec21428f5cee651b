"""Strict numerics, and the names that docstring examples may use, for every suite."""

import importlib
import importlib.util
from pathlib import Path

import hypothesis
import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import numpy as np
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Sharding is tested everywhere, also where there is one processor.
jax.config.update("jax_num_cpu_devices", 2)

# The first example compiles and the rest do not, so a deadline would fail at random.
hypothesis.settings.register_profile("eqx", deadline=None)
hypothesis.settings.load_profile("eqx")

# Programs for pyright to read, not for Python to run; and what takes effect for the whole process when it is imported.
collect_ignore_glob = ["tests-integration/programs/*", "tests-integration/typing/*", "*/eqx/equinox_alias.py"]

IMPORTS = sorted(path.parent.name for path in Path(__file__).parent.glob("packages/*/src/*/py.typed"))


@pytest.fixture(autouse=True)
def _names_in_doctests(request, doctest_namespace):
    if isinstance(request.node, pytest.DoctestItem):
        installed = filter(importlib.util.find_spec, IMPORTS)
        doctest_namespace.update({name: importlib.import_module(name) for name in installed})
        doctest_namespace.update(jax=jax, jnp=jnp, jr=jr, jtu=jtu, np=np)
