"""The presets are data: here they are held against timm and against what their weights need."""

import functools
import re
from pathlib import Path

import pytest
import torch
import yaml

from deepclust.backbones import pretrained
from deepclust.backbones.checkpoints import fit
from deepclust.core.addresses import hub_file
from deepclust.models.networks import build_network
from deepclust.models.torchvision_ops import declare_missing_operators
from deepclust.planning.pretrained import check_pretrained

PRESETS = yaml.safe_load(Path(pretrained.__file__).with_name("presets.yaml").read_text())
ON_THE_HUB = [name for name, preset in PRESETS.items() if preset["weights"].startswith("hf://")]
FAMILIES = [
    *("dino-vits16", "dino-vits8", "dino-vitb16", "dino-resnet50", "mocov3-vits16", "mocov3-vitb16", "mocov3-resnet50"),
    *("dinov2-vits14", "dinov2-vits14-reg", "dinov2-vitb14", "dinov2-vitb14-reg", "dinov2-vitl14", "dinov2-vitl14-reg"),
    *("dinov3-vits16", "mocov2-resnet50", "swav-resnet50", "deepclusterv2-resnet50", "mae-vitb16", "msn-vits16"),
    *("ibot-vits16", "clip-vitb16", "siglip-vitb16"),
]


@functools.cache
def network_of(name):
    """The network of a preset, without numbers in it."""
    preset = PRESETS[name]
    with torch.device("meta"):
        return build_network({"name": "timm", "model": preset["model"], "arguments": preset.get("arguments", {})})


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
    network = network_of(name)
    if "dinov2" in name:
        assert network.patch_embed.img_size == (518, 518)
    tokens = preset["pooling"] == "class"
    assert tokens == (getattr(network, "cls_token", None) is not None and preset["pooling"] != "head")
    patch = max(network.patch_embed.patch_size) if hasattr(network, "patch_embed") else 1
    assert preset["image_size"] % patch == 0


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_weights_as_timm_publishes_them_fit(timm, name):
    """Files on the hub hold the tensors of the network that their tag means, with its classifier or projection."""
    preset = PRESETS[name]
    network = network_of(name)
    with torch.device("meta"):
        published = timm.create_model(hub_file(preset["weights"]).repository.removeprefix("timm/"))
    fitted = fit(network, dict(published.state_dict()), preset.get("prefix"), None)
    assert not fitted.problems and not fitted.dropped


# Names in official files, as the publishers' own loading code takes them: what must be found, and what left out.
OFFICIAL = {
    "mocov3-vits16": ("state_dict.module.base_encoder.", ["head.0.weight", "head.1.running_mean"], "momentum_encoder"),
    "mocov3-resnet50": ("state_dict.module.base_encoder.", ["fc.0.weight", "fc.3.weight"], "momentum_encoder"),
    "mocov2-resnet50": ("state_dict.module.encoder_q.", ["fc.0.weight", "fc.2.bias"], "encoder_k"),
    "swav-resnet50": ("module.", ["projection_head.0.weight", "prototypes.weight"], None),
    "deepclusterv2-resnet50": ("module.", ["projection_head.0.weight", "prototypes0.weight"], None),
    "msn-vits16": ("target_encoder.module.", ["fc.fc1.weight"], "encoder"),
    "ibot-vits16": ("state_dict.", [], None),
    "dino-resnet50": ("", [], None),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_weights_as_their_publishers_wrap_them_fit(name):
    preset, (prefix, heads, sibling) = PRESETS[name], OFFICIAL[name]
    network = network_of(name)
    tensors = {f"{prefix}{key}": tensor for key, tensor in network.state_dict().items()}
    tensors |= {f"{prefix}{key}": torch.zeros(1) for key in heads}
    if sibling:  # another network of the same kind in the file
        words = prefix.rstrip(".").split(".")
        at = next(i for i, word in enumerate(words) if "encoder" in word)
        other = ".".join([*words[:at], sibling, *words[at + 1 :]])
        tensors |= {f"{other}.{key}": tensor for key, tensor in network.state_dict().items()}
    fitted = fit(network, tensors, preset.get("prefix"), None)
    assert not fitted.problems
    assert (fitted.prefix, fitted.dropped) == (prefix, heads)


def test_mocov3_has_twelve_heads():
    """Chen et al. 2021 changed the 6 heads of DeiT-S to 12; a network with 6 would load the same weights silently."""
    assert PRESETS["mocov3-vits16"]["arguments"] == {"num_heads": 12}


def test_clip_keeps_its_projection():
    assert PRESETS["clip-vitb32"]["pooling"] == "head" and network_of("clip-vitb32").feature_dim == 512


@pytest.mark.parametrize("name", PRESETS)
def test_planning_knows_what_networks_can_do(name):
    """Planning goes by names, without timm; here its verdicts are held against the networks."""
    network = network_of(name)
    plans = {"preset": name, "features": {"pooling": "class"}}, {"preset": name, "image_size": 100}
    no_token, no_multiple = (list(check_pretrained("x", options)) for options in plans)
    assert bool(no_token) == (getattr(network, "cls_token", None) is None)
    patch = max(network.patch_embed.patch_size) if hasattr(network, "set_input_size") else 1
    assert bool(no_multiple) == (100 % patch != 0)
