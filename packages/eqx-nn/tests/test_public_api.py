"""What the package shows, and what importing it costs."""

import os
import subprocess
import sys

import pytest

import eqx_nn

NAMES = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AdaptivePool",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm",
    "Conv",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Dropout",
    "Embedding",
    "GRUCell",
    "GroupNorm",
    "Identity",
    "LSTMCell",
    "Lambda",
    "LayerNorm",
    "Linear",
    "MLP",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MultiheadAttention",
    "PReLU",
    "Pool",
    "RMSNorm",
    "RotaryPositionalEmbedding",
    "Sequential",
    "Shared",
    "SpectralNorm",
    "State",
    "StateIndex",
    "StatefulLayer",
    "WeightNorm",
    "check_state",
    "delete_init_state",
    "inference_mode",
    "make_with_state",
    "reinit",
    "tree_inference",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_exists_and_is_documented(name):
    assert getattr(eqx_nn, name).__doc__


def test_nothing_else_is_public():
    assert {name for name in vars(eqx_nn) if not name.startswith("_")} == set(NAMES)


def test_the_version_is_that_of_the_installed_package():
    assert eqx_nn.__version__[0].isdigit()


def test_importing_touches_no_device_and_pulls_in_nothing_heavy():
    code = (
        "import sys, eqx_nn;"
        "heavy = {'torch', 'flax', 'optax', 'rich', 'matplotlib', 'jax.experimental.pallas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    # A platform that does not exist: whatever asks for a device fails.
    environment = os.environ | {"JAX_PLATFORMS": "none"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
