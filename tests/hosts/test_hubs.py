"""Hub folders of timm and of segmentation-models-pytorch hold the attention."""

from __future__ import annotations

import json
import warnings

import pytest
from pictures import distance, images, settled
from torch import nn

import regard
from regard.surgery import insertions, recipe

timm = pytest.importorskip("timm", reason="timm is not installed")
smp = pytest.importorskip(
    "segmentation_models_pytorch", reason="segmentation-models-pytorch is not installed"
)

from regard.hosts import huggingface_hub as mixin  # noqa: E402
from regard.hosts import timm as timm_host  # noqa: E402

pytestmark = pytest.mark.filterwarnings("default")


def unet(name: str = "Unet") -> nn.Module:
    net = smp.create_model(name, "resnet18", encoder_weights=None, classes=2)
    return settled(net.eval(), images(4))


@pytest.mark.parametrize("name", ["Unet", "FPN"])
def test_save_pretrained_of_smp(name, tmp_path):
    mixin.register()
    mixin.register()
    plain, x = unet(name), images()
    new = regard.insert(plain, "se", start="paper", reduction=4, example_input=x)
    new.save_pretrained(tmp_path)
    loaded = smp.from_pretrained(tmp_path).eval()
    assert type(loaded) is type(plain) and recipe(loaded) == recipe(new)
    assert len(insertions(loaded)) == 8
    assert distance(loaded(x), new(x)) == 0 < 1e-3 < distance(new(x), plain(x))
    # A model without attention is saved as before, and a file of it has none.
    plain.save_pretrained(tmp_path / "plain")
    again = smp.from_pretrained(tmp_path / "plain").eval()
    assert not insertions(again) and distance(again(x), plain(x)) == 0
    assert regard.load(plain, tmp_path / "model.safetensors").training == plain.training


def test_a_pan_has_layers_of_one_channel():
    net = smp.create_model("PAN", "resnet18", encoder_weights=None, classes=2).eval()
    with pytest.raises(ValueError, match=r"must not be larger than channels \(1\)"):
        regard.insert(net, "se", reduction=4)
    with pytest.warns(UserWarning, match="is left out at 2 of"):
        new = regard.insert(net, "se", skip="unfit", reduction=4)
    assert len(insertions(new)) == 11


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_save_for_hf_of_timm(name, tmp_path):
    options = {} if name == "resnet10t" else {"img_size": 64, "depth": 2, "global_pool": "avg"}
    plain, x = (
        settled(timm.create_model(name, num_classes=3, **options).eval(), images(4)),
        images(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        new = regard.insert(plain, "coordinate", start="paper", example_input=x)
    timm_host.save_for_hf(new, tmp_path, model_args=options)
    loaded = timm_host.create_model(f"local-dir:{tmp_path}").eval()
    assert recipe(loaded) == recipe(new) and len(insertions(new)) >= 4
    assert distance(loaded(x), new(x)) == 0 < 1e-3 < distance(new(x), plain(x))
    # timm's own call refuses what it does not know.
    with pytest.raises(RuntimeError, match="Unexpected key"):
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    # Other weights are refused with a table.
    with pytest.raises(ValueError, match="does not fit"):
        timm_host.create_model(f"local-dir:{tmp_path}", num_classes=5)


def test_other_folders_are_refused(tmp_path):
    net = timm.create_model("resnet10t", num_classes=3)
    with pytest.raises(ValueError, match="ResNet: nothing was inserted"):
        timm_host.save_for_hf(net, tmp_path)
    with pytest.raises(ValueError, match="expected local-dir:folder or hf-hub:owner/name, got 'r"):
        timm_host.create_model("resnet10t")
    timm.models.save_for_hf(net, str(tmp_path))
    assert "regard" not in json.loads((tmp_path / "config.json").read_text("utf-8"))
    with pytest.raises(ValueError, match=r"has no recipe in its config\.json"):
        timm_host.create_model(f"local-dir:{tmp_path}")
