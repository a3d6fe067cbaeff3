import json

import torch
from commands import run_command

from deepclust.backbones import pixels
from deepclust.models.model import Model


def features_of(model_json, images):
    model = Model.load(model_json, torch.device("cpu"))
    return model.features(model.preprocess(images))


def test_features_are_the_pixels(tmp_path):
    pixels.write(pixels.Options(), tmp_path / "model.json")
    images = torch.randint(0, 256, (3, 3, 6, 5), dtype=torch.uint8)
    assert torch.allclose(features_of(tmp_path / "model.json", images), images.flatten(1) / 255)


def test_command_resizes_on_request(tmp_path):
    model, provenance = tmp_path / "model.json", tmp_path / "provenance.json"
    flags = [
        "--method",
        "pixels",
        "--image_size",
        "4",
        "--output.model",
        model,
        "--output.weights",
        model.with_suffix(".safetensors"),
        "--provenance",
        provenance,
    ]
    done = run_command("pixels", *flags)
    assert done.returncode == 0, done.stderr
    features = features_of(model, torch.full((2, 1, 9, 12), 51, dtype=torch.uint8))
    assert features.shape == (2, 16)
    assert torch.allclose(features, torch.tensor(0.2))
    assert json.loads(provenance.read_text())["outputs"].keys() == {"model", "weights"}
