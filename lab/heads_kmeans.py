"""Speed and memory of the classical heads and of the neighbor search.

Baselines: scikit-learn's k-means with 10 restarts, exact neighbor search. They and the project's own work on 50,000
features of 384 dimensions, centred and of length 1: those named on the command line (an .npz with `x_train`), else
random ones around 100 centres. CPU seconds are compared beside wall seconds, because they hardly depend on what else
the machine does. Every measurement is a process of its own.

    python lab/heads_kmeans.py [features.npz] [--large]

`--large` measures instead k-means with 1000 clusters, and neighbors, of 1,281,167 random features, as many as ImageNet
has images, and the heads on the graph of neighbors with 60,000.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from timing import Row

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "workflow" / "scripts"))

K, SEED, NEIGHBORS = 10, 0, 20
LARGE, LARGE_K = 1_281_167, 1000
GRAPH = 60_000


@dataclass
class Measured:
    """Time and memory of a process, and the number that its work gave."""

    seconds: float
    cpu: float
    gib: float
    result: float


def measure(function: Callable, *arguments: object) -> Measured:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, function, *arguments).result()


def _measure(function: Callable, *arguments: object) -> Measured:
    """`function` does its imports and returns the work that is timed."""
    work = function(*arguments)
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Measured(wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, result)


def write_features(path: Path, count: int, centers: int) -> None:
    """Random features around random centres, float16 [count, 384]."""
    random = np.random.default_rng(SEED)
    middle = random.standard_normal((centers, 384), np.float32) / 2
    array = np.lib.format.open_memmap(path, "w+", np.float16, (count, 384))
    for first in range(0, count, 8192):
        size = min(8192, count - first)
        array[first : first + size] = middle[random.integers(0, centers, size)]
        array[first : first + size] += random.standard_normal((size, 384), np.float32)


def write_directions(path: Path, archive: Path | None) -> None:
    """The common features, centred and of length 1."""
    if archive is None:
        write_features(path, 50_000, 100)
        features = np.load(path).astype(np.float32)
    else:
        features = np.load(archive)["x_train"].astype(np.float32)
    features -= features.mean(axis=0)
    np.save(path, features / np.linalg.norm(features, axis=1, keepdims=True))


def scikit_learn(path: Path) -> Callable:
    """scikit-learn's k-means; its objective."""
    from sklearn.cluster import KMeans

    features = np.load(path)
    return lambda: KMeans(K, n_init=10, random_state=SEED).fit(features).inertia_


def head(name: str, path: Path, neighbors: Path | None, seeds: int, k: int, options: dict) -> Callable:
    """A head of the project; the best objective."""
    from deepclust.core import registry
    from deepclust.core.progress import Progress
    from deepclust.heads.kit.head import TrainingData

    module = registry.load("heads", name)
    near = None if neighbors is None else [np.load(neighbors)]
    data = TrainingData([np.load(path, mmap_mode="r")], near)
    fit = lambda: list(module.fit(data, k, range(seeds), module.Options(**options), Progress()))  # noqa: E731
    return lambda: min(result.objective for result in fit())


def search(path: Path, output: Path, recall: float, half_whiten: bool = False) -> Callable:
    """The neighbor search; its recall."""
    from deepclust.core.progress import Progress
    from deepclust.features.neighbors import find_neighbors
    from deepclust.features.options import NeighborOptions

    options = NeighborOptions(k=NEIGHBORS, recall=recall)
    return lambda: find_neighbors([path], output, options, Progress(), half_whiten)


def rows(what: str, measured: Measured, baseline: Measured | None = None, gib: float | None = None) -> list[Row]:
    """Wall seconds, CPU seconds, and memory where it has a limit."""
    wall = None if baseline is None else measured.seconds / baseline.seconds
    cpu = None if baseline is None else measured.cpu / baseline.cpu
    found = [Row(what, measured.seconds, "s", None, wall), Row(f"{what}, CPU time", measured.cpu, "s", None, cpu)]
    return found if gib is None else [*found, Row(f"{what}, peak memory", measured.gib, "GiB", gib, None)]


def common(folder: Path, archive: Path | None) -> list[Row]:
    """On 50,000 features."""
    path, neighbors = folder / "features.npy", folder / "neighbors.npy"
    write_directions(path, archive)
    reference, ours = measure(scikit_learn, path), measure(head, "kmeans", path, None, 1, K, {})
    five = measure(head, "kmeans", path, None, 5, K, {})
    exact, quick = measure(search, path, neighbors, 1.0), measure(search, path, folder / "approximate.npy", 0.95)
    return [
        *rows("k-means of scikit-learn, k = 10, 10 restarts (baseline)", reference),
        *rows("k-means, k = 10, 10 restarts", ours, reference),
        *rows("k-means, 5 seeds of 10 restarts", five, reference),
        Row(
            "k-means, 5 seeds in one job beside 5 times one, CPU time",
            five.cpu,
            "s",
            5 * ours.cpu,
            five.cpu / 5 / ours.cpu,
        ),
        Row("objective of k-means beside scikit-learn's", ours.result, "", 1.001 * reference.result, None),
        *rows("exact neighbors (baseline)", exact),
        *rows("neighbors, recall 0.95", quick, exact),
        Row("recall on a sample", quick.result, "", 0.95, None),
        *rows("mixture of Gaussians", measure(head, "gmm", path, None, 1, K, {})),
        *rows("spectral clustering", measure(head, "spectral", path, neighbors, 1, K, {}), gib=8),
        *rows("agglomerative clustering", measure(head, "agglomerative", path, neighbors, 1, K, {}), gib=8),
    ]


def large(folder: Path) -> list[Row]:
    """As many features as ImageNet has images, and what the heads on a graph are to manage."""
    path = folder / "large.npy"
    measure(writing, path, LARGE, LARGE_K)
    options = {"n_init": 3, "sample": 256 * LARGE_K}
    clustering = measure(head, "kmeans", path, None, 1, LARGE_K, options)
    neighbors = measure(search, path, folder / "neighbors.npy", 0.95)
    halved = measure(search, path, folder / "halved.npy", 0.95, True)
    path.unlink()
    measure(writing, path, GRAPH, 100)
    measure(search, path, folder / "graph.npy", 1.0)
    graph = {name: measure(head, name, path, folder / "graph.npy", 1, K, {}) for name in ("spectral", "agglomerative")}
    return [
        *rows(f"k-means of {LARGE:,} features, k = {LARGE_K}", clustering, gib=12),
        *rows(f"neighbors of {LARGE:,} features, recall 0.95", neighbors, gib=12),
        Row("recall on a sample", neighbors.result, "", 0.95, None),
        *rows(f"neighbors of {LARGE:,} half-whitened features, recall 0.95", halved, gib=12),
        Row("recall on a sample", halved.result, "", 0.95, None),
        *(row for name, took in graph.items() for row in rows(f"{name} of {GRAPH:,} features", took, gib=8)),
    ]


def writing(path: Path, count: int, centers: int) -> Callable:
    """`write_features`, as work."""
    return lambda: write_features(path, count, centers) or 0.0


def main() -> list[Row]:
    named = [Path(word) for word in sys.argv[1:] if word.endswith(".npz")]
    with tempfile.TemporaryDirectory() as name:
        return large(Path(name)) if "--large" in sys.argv else common(Path(name), named[0] if named else None)


if __name__ == "__main__":
    print(*main(), sep="\n")
