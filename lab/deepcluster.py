"""DeepCluster: what clustering costs in an epoch, and its k-means at the size of ImageNet beside faiss.

Baselines: an epoch's training steps (forward and backward passes), and faiss's k-means on the same rows, from a random
start of its own: with its default sample of 256 rows per cluster, and with all rows. CPU times of one core; on a GPU,
times until it has done the work. The rate of network passes is that of a few batches.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from timing import Row, seconds
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

from deepclust.core.device import choose_device, has_fast_bf16
from deepclust.models.networks import build_network
from deepclust.pretraining import deepcluster
from deepclust.pretraining.engine.method import ImageFacts
from deepclust.pretraining.parts.cluster_sampling import uniform_order
from deepclust.pretraining.parts.streamed_kmeans import assign, kmeans
from deepclust.pretraining.parts.whitening import whitened_features

COUNT, CLUSTERS, BATCH = 50_000, 1000, 256
MANY, DIMENSION = 1_280_000, 256
REDUCED = {"cpu": (1000, 5), "cuda": (10_000, 20)}  # clusters and iterations at the size of ImageNet


def epoch(device: torch.device) -> list[Row]:
    """An epoch of DeepCluster with ResNet-18 on 50,000 images of 32 pixels: its steps, and its clustering."""
    torch.manual_seed(0)
    network = build_network({"name": "resnet18", "stem": "cifar", "in_channels": 3})
    options = deepcluster.Options(dataset="random", architecture="resnet18", sobel=False, clusters=CLUSTERS)
    method = deepcluster.METHOD(options, network, ImageFacts(COUNT, (32, 32), [0.5] * 3, [0.25] * 3))
    method.to(device).to(memory_format=torch.channels_last)
    method.labels.copy_(torch.randint(CLUSTERS, (COUNT,)))
    images = torch.randint(0, 256, (BATCH, 3, 32, 32), dtype=torch.uint8, device=device)
    indices = torch.arange(BATCH, device=device)
    bf16 = has_fast_bf16(device)

    def step() -> None:
        method.zero_grad()
        views = method.views(images, 0)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embeddings = method.embed(views)
        method.loss(tuple(tensor.float() for tensor in embeddings), indices)["loss"].backward()

    @torch.inference_mode()
    def forward() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            network(images.float().contiguous(memory_format=torch.channels_last))

    step()
    training = seconds(lambda: [step() for _ in range(3)], device) / 3 * COUNT / BATCH
    network.eval()
    forward()
    passes = seconds(lambda: [forward() for _ in range(3)], device) / 3 * COUNT / BATCH
    # Features of as many groups as there are clusters, with noise.
    centers = torch.randn(CLUSTERS, 512)
    features = (centers[torch.randint(CLUSTERS, (COUNT,))] + torch.randn(COUNT, 512)).relu()
    found: list[torch.Tensor] = []
    whitening = seconds(
        lambda: found.append(whitened_features(lambda chosen: features[chosen], COUNT, DIMENSION, 0, device)), device
    )
    clusters = seconds(lambda: kmeans(found[0], CLUSTERS, options.iterations, 0, device), device)
    sampling = seconds(lambda: uniform_order(method.labels.cpu(), COUNT, 0), device)
    clustering = passes + whitening + clusters + sampling
    share = clustering / (clustering + training)
    return [
        Row("DeepCluster: steps of an epoch, N = 50,000 (baseline)", training, "s", None, 1.0),
        Row("DeepCluster: features of all images", passes, "s", None, passes / training),
        Row("DeepCluster: whitening", whitening, "s", None, whitening / training),
        Row("DeepCluster: k-means, k = 1,000, 20 iterations", clusters, "s", None, clusters / training),
        Row("DeepCluster: the order of an epoch", sampling, "s", None, sampling / training),
        Row("DeepCluster: share of clustering in an epoch", 100 * share, "%", 35, share),
    ]


def many_rows(folder: Path) -> torch.Tensor:
    """1.28 million unit vectors around 20,000 centres, float16, in a mapped file."""
    mapped = np.lib.format.open_memmap(folder / "rows.npy", "w+", np.float16, (MANY, DIMENSION))
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(20_000, DIMENSION, generator=generator)
    for start in range(0, MANY, 2**16):
        size = min(2**16, MANY - start)
        chosen = torch.randint(len(centers), (size,), generator=generator)
        noisy = centers[chosen] + torch.randn(size, DIMENSION, generator=generator)
        mapped[start : start + size] = F.normalize(noisy, dim=1).half().numpy()
    return torch.from_numpy(mapped)


def imagenet(device: torch.device) -> list[Row]:
    """k-means of 1.28 million rows; what faiss finds is scored on all rows in the same way."""
    import faiss

    k, iterations = REDUCED[device.type]
    name = f"k-means 1.28 M x 256, k = {k:,}, {iterations} iterations"
    with tempfile.TemporaryDirectory() as folder:
        rows = many_rows(Path(folder))
        results: dict[str, tuple[float, float]] = {}

        def ours() -> None:
            results["ours"] = (0.0, kmeans(rows, k, iterations, 0, device, backend="torch").objective)

        taken = seconds(ours, device)
        results["ours"] = (taken, results["ours"][1])
        values = rows.float().numpy()
        for label, limit in (("faiss, its default sample", 256), ("faiss, all rows", 10**6)):
            model = faiss.Kmeans(DIMENSION, k, niter=iterations, max_points_per_centroid=limit, seed=1)
            taken = seconds(lambda model=model: model.train(values), device)
            results[label] = (taken, assign(rows, torch.from_numpy(model.centroids).to(device), device)[1])
    fast = results["faiss, its default sample"]
    products = 2 * MANY * DIMENSION * k * (iterations + 1) / results["ours"][0] / 1e12
    table = [
        Row(f"{name}: {label}", spent, "s", None, spent / results["ours"][0]) for label, (spent, _) in results.items()
    ]
    table += [
        Row(f"{name}: objective, {label}", objective, "", None, objective / fast[1])
        for label, (_, objective) in results.items()
    ]
    return [*table, Row(f"{name}: products, ours", products, "TFLOP/s", None, None)]


def main() -> list[Row]:
    device = choose_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
        import faiss

        faiss.omp_set_num_threads(1)
    return [*epoch(device), *imagenet(device)]


if __name__ == "__main__":
    print(*main(), sep="\n")
