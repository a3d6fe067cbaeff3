import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepclust.core.errors import DeepclustError
from deepclust.models.description import SPEC_KEYS
from deepclust.models.model import Model, save_model
from deepclust.models.networks import architectures, build_network
from deepclust.models.preprocessing import resize_and_crop

CPU = torch.device("cpu")
SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"
SMALL = {"name": "resnet10_w32", "stem": "cifar", "in_channels": 3}


def spec_of(network, architecture, **changes):
    facts = dict.fromkeys(SPEC_KEYS)
    facts |= {"architecture": architecture, "interpolation": "bilinear", "crop_fraction": 1.0, "pooling": "avg"}
    return facts | changes


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = build_network(SMALL)
    path = tmp_path / "model.json"
    save_model(path, network, spec_of(network, SMALL, image_size=16, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4]))
    return path, network


@pytest.mark.parametrize("name", [name for name in architectures() if name.startswith("resnet")])
def test_feature_dim_is_what_comes_out(name):
    network = build_network({"name": name, "stem": "cifar", "in_channels": 1}).eval()
    assert network(torch.rand(2, 1, 8, 8)).shape == (2, network.feature_dim)


@pytest.mark.parametrize(("stem", "side", "positions"), [("cifar", 32, 4), ("stl", 96, 7), ("imagenet", 224, 7)])
def test_stems_leave_the_published_map_sizes(stem, side, positions):
    network = build_network(SMALL | {"stem": stem}).eval()
    with torch.no_grad():
        assert network.forward_features(torch.rand(1, 3, side, side)).shape == (1, 256, positions, positions)


def test_resnet18_is_the_published_one():
    """Two blocks of two 3x3 convolutions per stage, 64 to 512 wide (He et al. 2016), behind the CIFAR stem."""
    network = build_network({"name": "resnet18", "stem": "cifar", "in_channels": 3})
    stem = 3 * 64 * 9
    stages = 4 * 64 * 64 * 9 + sum(w * w // 2 * 9 + 3 * w * w * 9 + w * w // 2 for w in (128, 256, 512))
    convolutions = sum(p.numel() for p in network.parameters() if p.ndim == 4)
    assert convolutions == stem + stages


def test_weights_are_drawn_from_the_global_generator():
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(build_network(SMALL).conv1.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    "architecture",
    [{"name": "resnet1"}, {"name": "resnet18"}, SMALL | {"stem": "none"}, SMALL | {"depth": 3}, {}],
)
def test_bad_descriptions_are_refused(architecture):
    with pytest.raises(DeepclustError):
        build_network(architecture)


def test_round_trip_gives_the_same_features(saved):
    path, network = saved
    model = Model.load(path, CPU)
    images = model.preprocess(torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8))
    with torch.inference_mode():
        assert torch.allclose(model.features(images), network.eval()(images), atol=1e-5)
    assert not model.network.training


def test_saving_twice_gives_the_same_bytes(saved, tmp_path):
    path, network = saved
    other = tmp_path / "other" / "model.json"
    save_model(other, network, json.loads(path.read_text()))
    assert path.read_bytes() == other.read_bytes()
    assert path.with_suffix(".safetensors").read_bytes() == other.with_suffix(".safetensors").read_bytes()


def test_damaged_weights_are_refused(saved):
    path, _ = saved
    weights = path.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DeepclustError, match="sha256"):
        Model.load(path, CPU)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_missing_files_are_named(saved, name):
    path, _ = saved
    path.with_name(name).unlink()
    with pytest.raises(DeepclustError, match=name):
        Model.load(path, CPU)


def test_a_description_without_its_keys_is_refused(saved):
    path, _ = saved
    spec = json.loads(path.read_text())
    del spec["mean"]
    path.write_text(json.dumps(spec))
    with pytest.raises(DeepclustError, match="mean"):
        Model.load(path, CPU)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"name": "resnet18"}, "missing"), ({"in_channels": 1}, "another shape"), ({"stem": "imagenet"}, "another shape")],
)
def test_weights_of_another_network_are_refused(saved, change, message):
    path, _ = saved
    spec = json.loads(path.read_text())
    spec["architecture"] |= change
    path.write_text(json.dumps(spec))
    with pytest.raises(DeepclustError, match=message):
        Model.load(path, CPU)


def test_images_are_prepared_as_the_backbone_saw_them(saved):
    model = Model.load(saved[0], CPU, crop_fraction=0.8)
    images = torch.randint(0, 256, (2, 3, 40, 57), dtype=torch.uint8)
    mean, std = (torch.tensor(model.spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    expected = (resize_and_crop(images, 16, "bilinear", 0.8) / 255 - mean) / std
    torch.testing.assert_close(model.preprocess(images), expected)
    cropped = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(model.preprocess(cropped, cropped=True), (cropped / 255 - mean) / std)
    assert Model.load(saved[0], CPU, image_size=24).preprocess(images).shape == (2, 3, 24, 24)


def test_pixels_need_no_timm():
    code = (
        "import sys, torch; from deepclust.models.networks import build_network;"
        "print(build_network({'name': 'pixels'})(torch.ones(2, 3, 4, 4)).shape[1], 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["48", "False"]
