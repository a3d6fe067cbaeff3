"""The presets are data: here they are held against timm and against what their weights need."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from deepclust.backbones import pretrained
from deepclust.backbones.addresses import hub_file
from deepclust.common.networks import build_network, set_image_size
from deepclust.common.torchvision_ops import declare_missing_operators

PRESETS = yaml.safe_load(Path(pretrained.__file__).with_name("presets.yaml").read_text())
ON_THE_HUB = [name for name, preset in PRESETS.items() if preset["weights"].startswith("hf://")]
FAMILIES = [
    *("dino-vits16", "dino-vits8", "dino-vitb16", "dino-resnet50", "mocov3-vits16", "mocov3-vitb16", "mocov3-resnet50"),
    *("dinov2-vits14", "dinov2-vits14-reg", "dinov2-vitb14", "dinov2-vitb14-reg", "dinov2-vitl14", "dinov2-vitl14-reg"),
    *("dinov3-vits16", "mocov2-resnet50", "swav-resnet50", "deepclusterv2-resnet50", "mae-vitb16", "msn-vits16"),
    *("ibot-vits16", "clip-vitb16", "siglip-vitb16"),
]


@pytest.fixture(scope="module")
def timm():
    declare_missing_operators()
    return pytest.importorskip("timm")


def test_the_published_families_are_there():
    assert set(FAMILIES) <= PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_all_that_its_weights_need(name):
    preset = PRESETS[name]
    spoken = {"paper", "license", "note"}
    options = pretrained.Options(**{key: value for key, value in preset.items() if key not in spoken})
    wanted = ("model", "weights", "image_size", "crop_fraction", "interpolation", "mean", "std", "pooling", "data")
    assert all(getattr(options, key) is not None for key in wanted) and options.supervision and preset["paper"]
    language = name.startswith(("clip", "siglip"))
    assert options.supervision == ("language-supervised" if language else "self-supervised")
    assert re.fullmatch(r"(hf|https)://\S+", options.weights)


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_weights_on_the_hub_are_where_timm_finds_them(timm, name):
    place = hub_file(PRESETS[name]["weights"])
    tagged = place.repository.removeprefix("timm/")
    config = timm.models.get_pretrained_cfg(tagged)
    assert config.hf_hub_id == place.repository
    assert (config.hf_hub_filename or "model.safetensors") == place.file
    assert (list(config.mean), list(config.std)) == (PRESETS[name]["mean"], PRESETS[name]["std"])
    assert config.interpolation == PRESETS[name]["interpolation"]


@pytest.mark.parametrize("name", PRESETS)
def test_networks_can_be_built_and_read_in_the_way_a_preset_says(name):
    preset = PRESETS[name]
    with torch.device("meta"):
        network = build_network({"name": "timm", "model": preset["model"], "arguments": preset.get("arguments", {})})
    if "dinov2" in name:
        assert network.patch_embed.img_size == (518, 518)
        set_image_size(network, 518)
    tokens = preset["pooling"] == "class"
    assert tokens == (getattr(network, "cls_token", None) is not None and preset["pooling"] != "head")
    patch = max(network.patch_embed.patch_size) if hasattr(network, "patch_embed") else 1
    assert preset["image_size"] % patch == 0


def test_mocov3_has_twelve_heads():
    """Chen et al. 2021 changed the 6 heads of DeiT-S to 12; a network with 6 would load the same weights silently."""
    assert PRESETS["mocov3-vits16"]["arguments"] == {"num_heads": 12}


def test_clip_keeps_its_projection():
    architecture = {"model": "vit_base_patch32_clip_quickgelu_224", "arguments": {"num_classes": 512}}
    with torch.device("meta"):
        network = build_network({"name": "timm", **architecture})
    assert PRESETS["clip-vitb32"]["pooling"] == "head" and network.feature_dim == 512
