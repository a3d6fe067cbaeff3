import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch.nn import functional as F

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.heads import native
from deepclust.heads.kit.clustering import ClusteringJob, cluster
from deepclust.heads.kit.head import TrainingData
from deepclust.heads.kit.store import predict


@pytest.fixture
def write(tmp_path):
    """Writes a file of random layers: `write(7, 5, 3)` has 3 clusters of 5 dimensions after a layer from 7 to 5."""

    def write(*widths, normalize=True):
        generator = np.random.default_rng(0)
        names = [f"projector.{i}" for i in range(len(widths) - 2)] + ["clusters"] * (len(widths) > 1)
        tensors = {}
        for name, width, out in zip(names, widths, widths[1:]):
            tensors[f"{name}.weight"] = generator.normal(size=(out, width)).astype(np.float32)
            tensors[f"{name}.bias"] = generator.normal(size=out).astype(np.float32)
        path = tmp_path / "native.safetensors"
        save_file(tensors, path, {"deepclust": json.dumps({"normalize": normalize})})
        return path, {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}

    return write


def features(count=40, dimension=7):
    return np.random.default_rng(1).normal(size=(count, dimension)).astype(np.float16)


def fit(path, data, k, seeds=(0,)):
    training = TrainingData([data], native=path)
    return list(native.fit(training, k, seeds, native.Options(), Progress()))


@pytest.mark.parametrize("widths", [(7, 4), (7, 6, 4), (7, 6, 5, 4)])
@pytest.mark.parametrize("normalize", [True, False])
def test_clusters_are_those_of_the_network(write, widths, normalize):
    path, tensors = write(*widths, normalize=normalize)
    data = features()
    values = torch.from_numpy(data).float()
    for i in range(len(widths) - 2):
        values = F.linear(
            values if i == 0 else values.relu(), tensors[f"projector.{i}.weight"], tensors[f"projector.{i}.bias"]
        )
    values = F.normalize(values, dim=1) if normalize else values
    probabilities = F.linear(values, tensors["clusters.weight"], tensors["clusters.bias"]).softmax(1)
    first, second = fit(path, data, 4, seeds=(3, 5))
    assert (first.seed, second.seed) == (3, 5)
    assert first.objective == second.objective == pytest.approx(-probabilities.amax(1).log().mean().item(), rel=1e-5)
    prediction = native.predict(first.weights, [data], native.Options())
    assert np.array_equal(prediction.assignments, probabilities.argmax(1).numpy())
    assert np.allclose(prediction.probabilities, probabilities.numpy(), atol=1e-3)
    assert prediction.assignments.dtype == np.int32
    assert native.predict(first.weights, [data[:0]], native.Options()).assignments.shape == (0,)


def test_blocks_change_nothing(write, monkeypatch):
    path, _ = write(7, 6, 4)
    (result,) = fit(path, features(), 4)
    whole = native.predict(result.weights, [features()], native.Options())
    monkeypatch.setattr(native, "BLOCK", 7)
    parts = native.predict(result.weights, [features()], native.Options())
    assert np.array_equal(whole.assignments, parts.assignments)
    assert fit(path, features(), 4)[0].objective == pytest.approx(result.objective)


def test_what_does_not_fit_is_said(write):
    path, _ = write(7, 6, 4)
    with pytest.raises(DeepclustError, match="4 clusters, not 5"):
        fit(path, features(), 5)
    with pytest.raises(DeepclustError, match="of 7 dimensions, these have 9"):
        fit(path, features(dimension=9), 4)
    with pytest.raises(DeepclustError, match="NaN"):
        fit(path, np.full((3, 7), np.nan, np.float32), 4)
    path, _ = write(7)
    with pytest.raises(DeepclustError, match="holds no clusters"):
        fit(path, features(), 4)


def test_as_a_run(write, tmp_path):
    path, _ = write(7, 4)
    data = tmp_path / "features.npy"
    np.save(data, features())
    facts = {"method": "native", "options": native.Options(), "k": 4, "seeds": [0], "backbones": ["a"]}
    run = {**facts, "train": ["train"], "features": {"train": [data]}, "neighbors": {}}
    clusters = tmp_path / "clusters.safetensors"
    with pytest.raises(DeepclustError, match="--input.native"):
        cluster(ClusteringJob(**run), clusters, tmp_path / "seeds.json", code="0", progress=Progress())
    cluster(ClusteringJob(**run, native=path), clusters, tmp_path / "seeds.json", code="0", progress=Progress())
    path.unlink()  # the result stands alone
    assert predict(clusters, [features()]).assignments.shape == (40,)
