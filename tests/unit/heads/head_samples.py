"""All heads, with options that make them quick on small sets, and small sets for them."""

import importlib
import pkgutil

import numpy as np
from scipy.optimize import linear_sum_assignment

import deepclust.heads
from deepclust.core import registry
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.features.neighbors import half_whitened
from deepclust.heads.kit.head import CombiningOptions, HeadFacts, Partition, TrainingData

# Options for small sets, where the defaults take long or are meant for large sets.
OPTIONS: dict[str, dict] = {
    "consensus": {"members": ["kmeans"], "batch_size": 100},
    "temi": {
        "heads": 2,
        "batch_size": 100,
        "epochs": 20,
        "warmup_epochs": 2,
        "learning_rate": 1e-3,
        "teacher_momentum": 0.9,
    },
    "turtle": {"steps": 100, "learning_rate": 0.03, "inner_learning_rate": 0.1},
}


def all_heads():
    """Names of the modules that are heads and find clusters themselves."""
    names = [info.name for info in pkgutil.iter_modules(deepclust.heads.__path__)]
    modules = {name: importlib.import_module(f"deepclust.heads.{name}") for name in names}
    facts = {name: getattr(module, "FACTS", None) for name, module in modules.items()}
    return sorted(name for name, said in facts.items() if isinstance(said, HeadFacts) and not said.needs_native)


def scaled(points):
    """At length 1, float32."""
    points = points.astype(np.float64)
    return (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-30)).astype(np.float32)


def nearest(points, count):
    """The `count` nearest others by cosine, int32 [N, count]."""
    points = points.astype(np.float64)
    directions = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-30)
    similarity = directions @ directions.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :count].astype(np.int32)


def fit(name, points, k, seeds=(0,), neighbors=20, **options):
    """Results of a head by seed, and its options."""
    head = registry.load("heads", name)
    options = head.Options(**{**OPTIONS.get(name, {}), **options})
    searched = half_whitened(scaled(points)) if options.normalize == "half_whiten" else points
    near = [nearest(searched, min(neighbors, len(points) - 1))] if head.FACTS.needs_neighbors else None
    members = partitions(points, k) if isinstance(options, CombiningOptions) else None
    results = head.fit(TrainingData([points], near, members), k, list(seeds), options, Progress())
    return {result.seed: result for result in results}, options


def partitions(points, k):
    """What three seeds of k-means find, for heads that combine others; clusters by number where k-means cannot."""
    try:
        results, options = fit("kmeans", points, k, range(3), n_init=1)
        found = [predict("kmeans", result, points, options).assignments for result in results.values()]
    except (DeepclustError, KeyError):
        found = [(np.arange(len(points)) % k).astype(np.int32)]
    return [Partition("kmeans", seed, assignments, None) for seed, assignments in enumerate(found)]


def predict(name, result, points, options):
    """Assignments by one result."""
    return registry.load("heads", name).predict(result.weights, [points], options)


def mixture(count, k, dimension=16, seed=0, sizes=None, spread=0.15):
    """Points around `k` random directions, and which direction; of equal sizes unless told otherwise."""
    generator = np.random.default_rng(seed)
    centers, _ = np.linalg.qr(generator.normal(size=(dimension, k)))
    labels = np.repeat(np.arange(k), sizes if sizes is not None else count // k)
    points = 3 * (centers.T[labels] + spread * generator.normal(size=(len(labels), dimension)) / np.sqrt(dimension) * 2)
    order = generator.permutation(len(labels))
    return points[order].astype(np.float16), labels[order]


def accuracy(labels, assignments):
    """Share of the images whose cluster is that of their class, under the best matching."""
    size = max(labels.max(), assignments.max()) + 1
    table = np.zeros((size, size))
    np.add.at(table, (labels, assignments), 1)
    return table[linear_sum_assignment(-table)].sum() / len(labels)
