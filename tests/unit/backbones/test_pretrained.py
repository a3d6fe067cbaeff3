import json
from pathlib import Path

import pytest
import torch
from commands import run_command
from safetensors.torch import save

from deepclust.backbones.pins import Pin, check_pin, keep_pin, pin_path, read_pin
from deepclust.backbones.pretrained import Options, fetch
from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file
from deepclust.core.progress import Progress
from deepclust.models.model import Model
from hub_server import Repository
from tiny_vit import TINY

CPU = torch.device("cpu")
OPTIONS = {"model": "vit_tiny_patch16_224", "arguments": TINY, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


def run(folder, **changes):
    """Fetch from the file that `weights` names; returns the origin and the description."""
    options = Options(**{**OPTIONS, **changes})
    origin = fetch(options, Path(options.weights), folder / "pins", folder / "made" / "model.json", Progress())
    return origin, json.loads((folder / "made" / "model.json").read_text())


@pytest.fixture
def weights(vit, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {f"module.backbone.{k}": v for k, v in vit.state_dict().items()}}, path)
    return path


@torch.no_grad()
def test_own_weights_become_a_backbone(vit, weights, tmp_path):
    origin, spec = run(tmp_path, weights=str(weights), pooling="class+avg", data="toys", supervision="self-supervised")
    assert origin["sha256"] == sha256_file(weights)
    assert origin["prefix"] == "state_dict.module.backbone."
    assert (spec["image_size"], spec["feature_dim"], spec["pooling"]) == (32, 48, "class+avg")
    assert (spec["dataset"], spec["supervision"], spec["origin"]) == ("toys", "self-supervised", origin)
    model = Model.load(tmp_path / "made" / "model.json", CPU)
    pictures = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    prepared = model.preprocess(pictures, cropped=True)
    tokens = vit.forward_features(prepared)
    torch.testing.assert_close(model.features(prepared), torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1))
    assert not (tmp_path / "pins").exists()


def test_a_model_brings_its_own_preprocessing(weights, tmp_path):
    changes = {"model": "vit_tiny_patch16_224.augreg_in21k_ft_in1k", "mean": None, "std": None}
    _, spec = run(tmp_path, weights=str(weights), **changes)
    assert (spec["mean"], spec["std"]) == ([0.5] * 3, [0.5] * 3)
    assert (spec["crop_fraction"], spec["interpolation"], spec["pooling"]) == (0.9, "bicubic", "head")


def test_another_image_size_than_the_weights_were_made_for(weights, tmp_path):
    _, spec = run(tmp_path, weights=str(weights), image_size=64)
    assert spec["image_size"] == 64
    assert Model.load(tmp_path / "made" / "model.json", CPU).network.pos_embed.shape == (1, 1 + 64, 24)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "is asked for"),
        ({"arguments": {**TINY, "depth": 3}}, r"does not fit.*missing: blocks\.2\..* and 7 more"),
        ({"model": "resnet18", "arguments": {}}, "does not fit resnet18"),
        ({"arguments": {**TINY, "patch_size": 16}}, "another patch size: 8x8 for 16x16 pixels.*choose a model"),
        ({"model": "vit_tiny_patch16_224.nothing"}, "no weights 'nothing'"),
        ({"model": "vit_tiny_patch99_224"}, "no model 'vit_tiny_patch99_224'"),
        ({"model": None}, "name the network"),
        ({"image_size": 33}, "try 32 or 40"),
        ({"layers": [5]}, "layers"),
    ],
)
def test_what_does_not_fit_leaves_nothing(weights, tmp_path, changes, message):
    with pytest.raises(DeepclustError, match=message) as caught:
        run(tmp_path, weights=str(weights), **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_broken_numbers_are_refused(vit, tmp_path):
    tensors = {name: tensor.clone() for name, tensor in vit.state_dict().items()}
    tensors["norm.weight"][0] = float("nan")
    torch.save(tensors, tmp_path / "weights.pth")
    with pytest.raises(DeepclustError, match=r"NaN or infinite values in norm\.weight"):
        run(tmp_path, weights=str(tmp_path / "weights.pth"))


def test_pins_hold_from_the_first_use_on(tmp_path):
    first = Pin("https://example.org/w.pth", None, "a" * 64)
    assert read_pin(tmp_path, first.weights) is None
    check_pin(tmp_path, first)
    assert read_pin(tmp_path, first.weights) is None
    keep_pin(tmp_path, first)
    check_pin(tmp_path, first)
    other = Pin(first.weights, None, "b" * 64)
    with pytest.raises(DeepclustError, match=str(pin_path(tmp_path, first.weights))):
        check_pin(tmp_path, other)
    keep_pin(tmp_path, other)
    assert read_pin(tmp_path, first.weights) == first


@pytest.mark.parametrize("bad", ["page", "other", "nan"])
def test_a_bad_first_download_is_not_pinned(bad, vit, resnet, tmp_path):
    address, path = "https://example.org/vit.pth", tmp_path / "weights.pth"
    options = Options(**OPTIONS, weights=address)

    def arrived(tensors):
        path.write_bytes(b"<html>busy</html>") if tensors is None else torch.save(tensors, path)
        return fetch(options, path, tmp_path / "pins", tmp_path / "made" / "model.json", Progress())

    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in vit.state_dict().items()}
    with pytest.raises(DeepclustError):
        arrived({"page": None, "other": resnet.state_dict(), "nan": broken}[bad])
    origin = arrived(vit.state_dict())
    assert read_pin(tmp_path / "pins", address) == Pin(address, None, origin["sha256"])
    with pytest.raises(DeepclustError, match="not the file it was at its first use"):
        arrived({name: tensor + 1 for name, tensor in vit.state_dict().items()})


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_files_here_may_change(scheme, vit, weights, tmp_path):
    """Planning sees that, which it cannot where they are elsewhere."""
    options = Options(**OPTIONS, weights=f"{scheme}{weights}")
    made = tmp_path / "made" / "model.json"
    first = fetch(options, weights, tmp_path / "pins", made, Progress())
    torch.save({name: tensor + 1 for name, tensor in vit.state_dict().items()}, weights)
    assert fetch(options, weights, tmp_path / "pins", made, Progress())["sha256"] != first["sha256"]


def command(hub, folder, **flags):
    made = folder / "made" / "model.json"
    flags = {"method": "pretrained", "output.model": made, "pins": folder / "pins", **flags}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    words += ["--model", OPTIONS["model"], "--arguments", json.dumps(TINY), "--provenance", str(folder / "record.json")]
    return run_command("fetch_weights", *words, **hub.environment(folder / "cache"))


def test_the_command_pins_what_the_hub_gave_first(hub, vit, tmp_path):
    """A later commit of the repository changes nothing, until the pin is deleted."""
    hub.repositories["team/vit"] = repository = Repository()
    first = repository.commit(model__safetensors=save(vit.state_dict()))
    done = command(hub, tmp_path, weights="hf://team/vit")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "record.json").read_text())
    made = json.loads((tmp_path / "made" / "model.json").read_text())
    assert made["origin"] == record["options"]["origin"]
    assert (made["origin"]["repository"], made["origin"]["revision"]) == ("team/vit", first)

    repository.commit(model__safetensors=save({name: tensor + 1 for name, tensor in vit.state_dict().items()}))
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    assert command(hub, tmp_path, weights="hf://team/vit").returncode == 0
    assert json.loads((tmp_path / "made" / "model.json").read_text()) == made

    del repository.commits[first]
    (tmp_path / "cache").rename(tmp_path / "elsewhere2")
    done = command(hub, tmp_path, weights="hf://team/vit")
    assert done.returncode == 1 and f"no revision {first}" in done.stderr and "Traceback" not in done.stderr
    assert str(pin_path(tmp_path / "pins", "hf://team/vit")) in done.stderr


@pytest.mark.parametrize("flags", [{"image_size": 33}, {"layers": "[5]", "pooling": "avg"}])
def test_what_the_network_cannot_do_is_said_before_the_download(hub, vit, tmp_path, flags):
    hub.repositories["team/vit"] = repository = Repository()
    repository.commit(model__safetensors=save(vit.state_dict()))
    done = command(hub, tmp_path, weights="hf://team/vit", **flags)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert hub.requests == []
