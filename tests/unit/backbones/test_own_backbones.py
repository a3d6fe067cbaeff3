import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from deepclust.backbones.pretrained import Options, fetch
from deepclust.core.errors import DeepclustError
from deepclust.core.files import sha256_file
from deepclust.core.progress import Progress
from deepclust.models.model import Model

UNUSABLE = [
    ("architecture", [{}, {"name": 5}, "resnet18"]),
    ("image_size", [0, 32.5, "32", True]),
    ("interpolation", ["nearest", None, []]),
    ("mean", ["0.5", [], [None] * 3]),
    ("std", [None, [0.2, 0.2, 0], [0.2, 0.2, "0.2"]]),
    ("crop_fraction", [0, 1.5, None, "1"]),
    ("pooling", ["mean", None, {}]),
    ("layers", [[], [0.5], 3]),
    ("splits", [5]),
    ("sha256", [None]),
]
SHIPPED = Path(__file__).resolve().parents[3] / "weights" / "cifar10-simclr-resnet10_w32"


@pytest.fixture
def original(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "original")
    return tmp_path / "original" / "model.json"


def run(description, **options):
    """Fetch it; returns what the new description says."""
    made = description.parents[1] / "made" / "model.json"
    pins = description.parents[1] / "pins"
    origin = fetch(Options(weights=str(description), **options), description, pins, made, Progress())
    spec = json.loads(made.read_text())
    assert spec["origin"] == origin
    return spec


def test_a_description_brings_all_that_is_needed(original):
    spec = run(original, sha256=sha256_file(original))
    described = json.loads(original.read_text())
    assert spec == described | {"origin": spec["origin"]}
    assert (spec["origin"]["weights"], spec["origin"]["sha256"]) == (str(original), sha256_file(original))
    Model.load(original.parents[1] / "made" / "model.json", torch.device("cpu"))


def test_tables_may_be_told_other_words(original):
    spec = run(original, data="CIFAR-10", supervision="self-supervised")
    assert (spec["dataset"], spec["splits"], spec["supervision"]) == ("CIFAR-10", [], "self-supervised")


def test_a_copy_of_a_copy_knows_where_both_came_from(original):
    first = run(original)
    (original.parents[1] / "made").rename(original.parents[1] / "first")
    second = run(original.parents[1] / "first" / "model.json")
    assert second["origin"]["origin"] == first["origin"]
    assert second["sha256"] == first["sha256"]


@pytest.mark.parametrize("key", ["image_size", "pooling", "layers", "mean", "prefix", "model", "arguments"])
def test_what_it_says_itself_is_not_said_again(key, original):
    value = {"image_size": 32, "pooling": "max", "layers": [1], "mean": [0.5], "arguments": {"a": 1}}.get(key, "x")
    with pytest.raises(DeepclustError, match=f"leave out {key}"):
        run(original, **{key: value})


def damaged(original, how):
    tensors = original.with_name("model.safetensors")
    spec = json.loads(original.read_text())
    if how == "other weights":
        tensors.write_bytes(tensors.read_bytes()[:-1] + b"?")
    elif how == "nan":
        broken = load_file(tensors)
        broken["bn1.weight"][0] = np.nan
        save_file(broken, tensors)
        spec["sha256"] = sha256_file(tensors)
    elif how == "no description":
        spec = {"epochs": 1}
    elif how == "not json":
        original.write_text("<html>")
        return
    elif isinstance(how, dict):
        spec |= how
    else:
        spec["architecture"]["stem"] = how
    original.write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("other weights", "is not what .* describes"),
        ("nan", "NaN or infinite values in bn1.weight"),
        ("no description", "lacks architecture, "),
        ("not json", "not valid JSON .*: get it again"),
        ("imagenet", "does not fit its architecture"),
        ("pointed", "unknown stem 'pointed'"),
        *[
            ({key: value}, f"has no {key} that can be used.*get it again")
            for key, values in UNUSABLE
            for value in values
        ],
        ({"std": [0.2]}, "has no std that can be used"),
        ({"mean": None}, "has no std that can be used"),
    ],
)
def test_damage_leaves_nothing(how, message, original):
    damaged(original, how)
    with pytest.raises(DeepclustError, match=message) as caught:
        run(original)
    assert "\n" not in str(caught.value)
    assert not (original.parents[1] / "made").exists()
