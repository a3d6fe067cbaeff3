"""Costs of DeepCluster on large sets, by arithmetic: the tables of lab/scaling.md. Nothing is measured here.

Work is counted in operations, bytes and decoded images and divided by the rates below.
"""

from dataclasses import dataclass

# Assumed from the datasheet of an A100 (80 GB), of which networks and products are taken to reach 40 %.
PRODUCTS = 0.4 * 312e12  # operations per second in bf16
GPU_MEMORY = 80e9  # bytes
GPU_BANDWIDTH = 2.0e12  # bytes per second
COPY = 5e9  # bytes per second from a mapped file in the page cache to a GPU; assumed
# Measured on one core of an AMD EPYC (lab/performance.md): photographs of 500 x 375 pixels read, decoded by simplejpeg
# and resized to 224.
DECODED = 603  # images per second and core
CORES = 16  # per GPU; assumed

SETS = {"ImageNet-1k": 1_281_167, "YFCC100M": 95_000_000}
DIMENSION, CLUSTERS, ITERATIONS = 256, 10_000, 20
SAMPLE, WIDTH = 2**17, 4096  # of the whitening


@dataclass(frozen=True)
class Network:
    """Operations of a forward pass, counted by PyTorch's flop counter at 224 (and 96) pixels."""

    name: str
    forward: float
    forward_small: float = 0.0


ALEXNET, VGG, RESNET50 = (
    Network("AlexNet-BN", 2.19e9),
    Network("VGG-16-BN", 30.9e9),
    Network("ResNet-50", 8.17e9, 1.50e9),
)


def reading(images: float, gpus: int) -> float:
    return images / (DECODED * CORES * gpus)


def kmeans(count: float, dimension: int, clusters: int, iterations: int) -> float:
    """Seconds for one GPU's part of the rows: products, scores written and read, copies of rows that do not fit."""
    passes = iterations + 1
    products = 2.0 * count * dimension * clusters / PRODUCTS
    scores = 4.0 * count * clusters / GPU_BANDWIDTH
    size = 2.0 * count * dimension
    copies = size / COPY if size > GPU_MEMORY / 2 else 0.0
    return passes * (products + scores + copies)


def deepcluster(network: Network, count: int, gpus: int) -> dict[str, float]:
    """Seconds of an epoch; training and features wait for whichever is slower, the network or the decoders."""
    steps = max(3 * network.forward * count / (PRODUCTS * gpus), reading(count, gpus))
    features = max(network.forward * count / (PRODUCTS * gpus), reading(count, gpus))
    if count > SAMPLE:
        features *= 1 + SAMPLE / count
    part = count / gpus
    whitening = 2.0 * part * WIDTH * DIMENSION / PRODUCTS
    return {"steps": steps, "features": features, "clustering": whitening + kmeans(part, 256, CLUSTERS, ITERATIONS)}


def deepcluster_v2(count: int, gpus: int, small: int) -> dict[str, float]:
    """Seconds of an epoch with ResNet-50, two views of 224 pixels and some of 96, 3 heads of 3000 prototypes."""
    forward = 2 * RESNET50.forward + small * RESNET50.forward_small
    steps = max(3 * forward * count / (PRODUCTS * gpus), reading(count, gpus))
    return {"steps": steps, "features": 0.0, "clustering": 3 * kmeans(count / gpus, 128, 3000, 10)}


def duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.2g} s"


def main() -> None:
    print("| set | method | GPUs | steps | features | clustering | epoch | share of clustering | whole training |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, count in SETS.items():
        for gpus in (1, 8, 64):
            for label, epochs, parts in (
                ("DeepCluster, AlexNet-BN", 500, deepcluster(ALEXNET, count, gpus)),
                ("DeepCluster, VGG-16-BN", 500, deepcluster(VGG, count, gpus)),
                ("DeepCluster-v2, 2 x 224 + 6 x 96", 800, deepcluster_v2(count, gpus, 6)),
            ):
                total = sum(parts.values())
                share = (parts["features"] + parts["clustering"]) / total
                cells = [name, label, str(gpus), *map(duration, parts.values()), duration(total), f"{share:.0%}"]
                print("|", " | ".join([*cells, f"{duration(epochs * total)} ({epochs} epochs)"]), "|")
    print("\n| set | images, encoded | rows to cluster, per process of 1 / 8 / 64 | banks of v2 | order of an epoch |")
    print("|---|---|---|---|---|")
    for name, count in SETS.items():
        images, rows, banks, order = (count * each / 1e9 for each in (110e3, 2 * DIMENSION, 2 * 2 * 128, 5 * 8))
        shared = " / ".join(f"{rows / gpus:.3g}" for gpus in (1, 8, 64))
        print(f"| {name} | {images:,.0f} GB | {shared} GB | {banks:.3g} GB | {order:.3g} GB |")


if __name__ == "__main__":
    main()
