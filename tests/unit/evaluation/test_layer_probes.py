import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from deepclust.core.errors import DeepclustError
from deepclust.core.images import Images, write_raw
from deepclust.core.progress import Progress
from deepclust.evaluation.layer_probes import LabelledImages, fit_classifier, probe_layers
from deepclust.evaluation.options import LayerProbeOptions
from deepclust.models.model import Model, save_model
from deepclust.models.networks import build_network

CPU = torch.device("cpu")
SPEC = dict.fromkeys(
    ("method", "dataset", "supervision", "splits", "epochs", "start_from", "origin", "layers", "mean", "std")
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    architecture = {"name": "resnet10_w32", "stem": "cifar", "in_channels": 1}
    path = tmp_path_factory.mktemp("model") / "model.json"
    facts = {"architecture": architecture, "image_size": None, "interpolation": "bilinear", "crop_fraction": 1.0}
    save_model(path, build_network(architecture), {**SPEC, **facts, "pooling": "avg", "feature_dim": 256})
    return Model.load(path, CPU)


def stripes(folder, count, seed):
    """Images of stripes that lie (0) or stand (1), of any phase; some of unknown class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    wave = (np.sin(np.arange(8) * 1.6 + random.uniform(0, 6.3, (count, 1))) * 100 + 128)[:, None, :, None]
    images = np.where(labels[:, None, None, None] == 0, wave, wave.transpose(0, 1, 3, 2)) * np.ones((1, 1, 8, 8))
    write_raw(folder, [images.astype(np.uint8)], (1, 8, 8))
    labels[::10] = -1
    return Images(folder), labels


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stripes")
    return [
        LabelledImages.of([images], [labels])
        for images, labels in (stripes(folder / name, n, n) for name, n in (("a", 300), ("b", 200)))
    ]


def test_accuracy_of_every_stage(model, splits):
    train, score = splits
    records = probe_layers(train, score, model, LayerProbeOptions(dimension=600), CPU, Progress())
    assert [record["layer"] for record in records] == [0, 1, 2, 3, 4]
    assert [record["channels"] for record in records] == [32, 32, 64, 128, 256]
    assert [record["grid"] for record in records] == [4, 4, 3, 2, 1]
    assert all(record["dimension"] == record["channels"] * record["grid"] ** 2 <= 600 for record in records)
    assert records[1]["linear_acc"] > 0.9
    assert all(0.4 < record["linear_acc"] <= 1 for record in records)


TIMM = {
    "vit_tiny_patch16_224": ({"img_size": 8, "patch_size": 4, "embed_dim": 8, "depth": 3, "num_heads": 2}, 3),
    "convnext_atto": ({"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}, 4),
}


@pytest.mark.parametrize("name", TIMM)
def test_networks_with_other_numbers_of_stages(name, splits, tmp_path):
    arguments, stages = TIMM[name]
    architecture = {"name": "timm", "model": name, "arguments": arguments | {"in_chans": 1}}
    size = 8 if name.startswith("vit") else 32
    facts = {"architecture": architecture, "image_size": size, "interpolation": "bilinear", "crop_fraction": 1.0}
    torch.manual_seed(0)
    network = build_network(architecture)
    save_model(tmp_path / "model.json", network, {**SPEC, **facts, "pooling": "avg", "feature_dim": 8})
    model = Model.load(tmp_path / "model.json", CPU)
    records = probe_layers(*splits, model, LayerProbeOptions(dimension=100), CPU, Progress())
    assert [record["layer"] for record in records] == list(range(stages))


def test_without_a_test_split_some_images_are_left_out(model, splits):
    nothing = LabelledImages.of([], [])
    records = probe_layers(splits[0], nothing, model, LayerProbeOptions(dimension=100), CPU, Progress())
    scored = 54  # a fifth of 270 that have a class
    assert all(abs(record["linear_acc"] * scored - round(record["linear_acc"] * scored)) < 1e-6 for record in records)


def test_labels_must_belong_to_the_images(splits):
    with pytest.raises(DeepclustError, match="different numbers"):
        LabelledImages.of(splits[0].splits, [np.zeros(7, np.int64)])


def test_one_class_is_an_error(model, splits):
    train = splits[0].take(np.flatnonzero(splits[0].labels == 0))
    with pytest.raises(DeepclustError, match="two classes"):
        probe_layers(train, splits[1], model, LayerProbeOptions(), CPU, Progress())


def test_the_classifier_is_that_of_scikit_learn():
    torch.manual_seed(0)
    rows, labels = torch.randn(300, 20) * 3 + 1, torch.randint(3, (300,))
    rows[:, 0] += 4 * labels
    found = fit_classifier(rows, labels, 0.01)
    values = (rows - found.mean) / found.scale
    assert values.square().sum(1).mean().item() == pytest.approx(1, rel=1e-4)
    expected = LogisticRegression(C=1 / (0.01 * 300), max_iter=1000, tol=1e-8).fit(values.numpy(), labels.numpy())
    assert np.allclose(found.weight.numpy() - found.weight.numpy().mean(0), expected.coef_, atol=0.02)
    assert (found.predict(rows).numpy() == expected.predict(values.numpy())).mean() > 0.99
