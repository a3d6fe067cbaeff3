"""Clusters of digits as the workflow makes them: training, features, the head `native`."""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits

from deepclust.core.progress import Progress
from deepclust.heads import native
from deepclust.heads.kit.head import TrainingData
from deepclust.models.model import Model

CLUSTERS = 5


def few_digits():
    """The digits 0 to 4: images uint8 [901, 1, 8, 8] and labels."""
    data = load_digits(n_class=CLUSTERS)
    return (16 * data.images).clip(0, 255).astype(np.uint8)[:, None], data.target


def features_of(folder, images):
    model = Model.load(folder / "model.json", torch.device("cpu"))
    with torch.inference_mode():
        return model.features(model.preprocess(torch.from_numpy(images))).numpy()


def assignments(folder, features):
    data = TrainingData([features], native=folder / "native.safetensors")
    (result,) = native.fit(data, CLUSTERS, [0], native.Options(), Progress())
    return native.predict(result.weights, [features], native.Options()).assignments


def accuracy(clusters, labels):
    table = np.zeros((CLUSTERS, CLUSTERS), int)
    np.add.at(table, (clusters, labels), 1)
    return table[linear_sum_assignment(-table)].sum() / len(labels)
