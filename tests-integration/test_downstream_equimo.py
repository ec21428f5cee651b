"""equimo on `eqx.equinox_alias`: a vision transformer runs, learns, is edited, and is saved and loaded."""

import importlib.util
import sys
import warnings

import jax
import jax.random as jr
import pytest

import eqx

if "equinox" not in sys.modules or sys.modules["equinox"].Module is not eqx.Module:
    pytest.skip("equinox is not aliased: run `nox -s downstream`", allow_module_level=True)
if importlib.util.find_spec("equimo") is None:
    pytest.skip("equimo is not installed", allow_module_level=True)
with warnings.catch_warnings(action="default"):
    from equimo.io import load_model, save_model
    from equimo.models import VisionTransformer, get_model_cls

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


CONFIG = {
    "img_size": 16,
    "in_channels": 3,
    "dim": 8,
    "patch_size": 4,
    "num_heads": [2],
    "depths": [2],
    "num_classes": 3,
}
IMAGE = jr.normal(jr.PRNGKey(1), (3, 16, 16))


@pytest.fixture(scope="module")
def model():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return VisionTransformer(**CONFIG, key=jr.PRNGKey(0))


def test_a_vision_transformer_learns(model):
    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model):
        return -jax.nn.log_softmax(model(IMAGE, key=jr.PRNGKey(2)))[0]

    before, grads = loss(model)
    after, _ = loss(eqx.apply_updates(model, jax.tree.map(lambda g: -0.05 * g, grads)))
    assert after < before


def test_layers_are_edited(model):
    """A new head, by path; the rest is shared."""
    head = eqx.nn.Linear(8, 7, key=jr.PRNGKey(3))
    edited = eqx.tree_at(lambda m: m.head, model, head)
    assert edited(IMAGE, key=jr.PRNGKey(2)).shape == (7,)
    assert edited.patch_embed is model.patch_embed or eqx.tree_equal(edited.patch_embed, model.patch_embed)
    still = eqx.nn.inference_mode(model)
    assert eqx.tree_equal(still(IMAGE, key=jr.PRNGKey(4)), still(IMAGE, key=jr.PRNGKey(5)))


@pytest.mark.parametrize("compression", [True, False])
def test_models_are_saved_and_loaded(model, tmp_path, compression):
    path = tmp_path / "model"
    save_model(path, model, CONFIG, compression=compression)
    path = path.with_name("model.tar.lz4") if compression else path
    loaded = load_model("vit", path=path)
    assert eqx.tree_equal(eqx.filter(loaded, eqx.is_array), eqx.filter(model, eqx.is_array))


def test_classes_are_found_by_name():
    assert get_model_cls("vit") is VisionTransformer
    assert issubclass(VisionTransformer, eqx.Module)
