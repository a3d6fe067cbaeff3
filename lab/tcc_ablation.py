"""Ablation of TCC: one option changed at a time, on a small network, judged without and with labels.

The scikit-learn digits (1797 images of 8 x 8), or the first images of CIFAR-10 from its archive (`--cifar`). Clusters
are the method's own. Constants were chosen by the columns that need no labels, ACC and NMI stand beside, to judge the
choice afterwards:

- information: mutual information, in nats, of the assignments of two views of an image (log 10 at best), which asks for
  certain and equal assignments to many clusters at once; the same for the surest clusters alone, as NMI (views agree);
- stayed: share of images whose cluster is that of the epoch before; seeds: NMI between the clusters of two seeds;
- entropy of the cluster sizes (1: all equal), mean probability of an image's cluster;
- contrast of images at the end of training.

Each process takes one thread.

    python lab/tcc_ablation.py --seeds 2 --epochs 6
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score

SCRIPTS = Path(__file__).resolve().parent.parent / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from deepclust.core.device import choose_device  # noqa: E402
from deepclust.core.errors import DeepclustError  # noqa: E402
from deepclust.core.images import Images, write_raw  # noqa: E402
from deepclust.core.progress import Progress  # noqa: E402
from deepclust.data.formats.cifar import read_records  # noqa: E402
from deepclust.heads import native  # noqa: E402
from deepclust.heads.kit.head import TrainingData  # noqa: E402
from deepclust.models.model import Model  # noqa: E402
from deepclust.pretraining import tcc  # noqa: E402
from deepclust.pretraining.engine import pretraining as engine  # noqa: E402
from deepclust.pretraining.engine.native import FILE, read_native  # noqa: E402
from deepclust.pretraining.engine.options import AugmentationOptions  # noqa: E402
from deepclust.pretraining.views.augmentation import Augmentation  # noqa: E402

CLASSES = 10
COMMON = {"architecture": "resnet10_w32", "stem": "stl", "instance_queue": 512}
DIGITS = {"batch_size": 64, "augmentation": {"crop_scale": (0.5, 1), "flip_probability": 0}}
CIFAR = {"batch_size": 128, "warmup_epochs": 1}
COLUMNS = ("agreement", "cluster_entropy", "mean_max_probability", "instance_loss")
GUMBEL = {"sampling": "gumbel"}
PLAIN = GUMBEL | {
    "condition": "concatenate",
    "kl_weight": 1,
    "balance_weight": 0,
    "membership_weight": 0,
    "instance_temperature": 0.5,
}
# In which agreement is measured, by the number of colours.
VIEWS = {1: AugmentationOptions(**DIGITS["augmentation"]), 3: AugmentationOptions()}
STRONGER = {"crop_scale": (0.08, 1), "brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}
VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "KL weight 1": {"kl_weight": 1},
    "no KL term": {"kl_weight": 0},
    "set vectors": {"membership_weight": 0},
    "both contrasts of clusters": {"membership_weight": 0.5},
    "plain reconstruction": PLAIN,
    "draws at 0.3": GUMBEL,
    "memberships at temperature 0.5": {"membership_temperature": 0.5},
    "set vectors at temperature 0.2": {"membership_weight": 0, "cluster_temperature": 0.2},
    "set vectors without their past": {"membership_weight": 0, "cluster_queue": 0},
    "no queue of images": {"instance_queue": 0},
    "batches of 32": {"batch_size": 32},
    "batches of 256": {"batch_size": 256},
    "stronger views": {"augmentation": STRONGER},
    "temperature of images 0.5": {"instance_temperature": 0.5},
    "own part weighs 0.1": {"instance_weight": 0.1},
    "draws from 1.0 down to 0.1": GUMBEL | {"gumbel_temperature": (1.0, 0.1)},
    "teacher 0.99": {"teacher_momentum": 0.99},
    "plain, balanced": PLAIN | {"balance_weight": 1},
    "not balanced": {"balance_weight": 0},
}


@dataclass
class Outcome:
    """Result of one training; clusters -1 and a record of nothing where it collapsed."""

    clusters: np.ndarray
    record: dict[str, float]
    seconds: float
    views: tuple[float, float] = (0, 0)
    """Mutual information of two views' assignments, and NMI of their surest clusters."""


def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    return (16 * data.images).clip(0, 255).astype(np.uint8)[:, None], data.target


def cifar(archive: Path, count: int) -> tuple[np.ndarray, np.ndarray]:
    (block,) = read_records(archive, ["cifar-10-batches-bin/data_batch_1.bin"], 10_000, [CLASSES])
    return block.images[:count], block.labels[:count]


def train(images: np.ndarray, options: dict[str, Any]) -> Outcome:
    """One training from scratch, and the clusters of its images."""
    device, start = choose_device(), time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_raw(folder / "images", [images], images.shape[1:])
        files = engine.TrainingFiles(
            [Images(folder / "images")],
            None,
            folder / "model.json",
            folder / "log.jsonl",
            folder / "tensorboard",
            folder / "snapshots",
        )
        session = engine.Session(device, Progress(), "0", 1e9, lambda stop: None)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                engine.pretrain(
                    "tcc", tcc, tcc.Options(dataset="ablation", clusters=CLASSES, **options), files, session
                )
        except DeepclustError as error:
            print(error, file=sys.stderr)
            return Outcome(np.full(len(images), -1), {}, time.process_time() - start)
        seconds = time.process_time() - start
        record = json.loads(files.log.read_text().splitlines()[-1])
        model = Model.load(files.model, device)
        with torch.inference_mode():
            parts = torch.from_numpy(images).to(device).split(500)
            features = torch.cat([model.features(model.preprocess(part)).cpu() for part in parts]).numpy()
        data = TrainingData([features], native=folder / "native.safetensors")
        views = agreement(model, images, folder / FILE)
        (head,) = native.fit(data, CLASSES, [0], native.Options(), Progress())
        clusters = native.predict(head.weights, [features], native.Options()).assignments
    return Outcome(clusters, record, seconds, views)


@torch.inference_mode()
def agreement(model: Model, images: np.ndarray, head: Path) -> tuple[float, float]:
    """Return the agreement of the clusters of two views of the images, see `Outcome.views`."""
    native_head = read_native(head)
    augment = Augmentation(VIEWS[images.shape[1]], images.shape[2:], model.spec["mean"], model.spec["std"])
    sides: list[list[torch.Tensor]] = [[], []]
    for i, part in enumerate(torch.from_numpy(images).split(500)):
        for side, assignments in enumerate(sides):
            projected = native_head.projector(model.network(augment(part, 2 * i + side)))
            assignments.append((F.normalize(projected, dim=1) @ native_head.weight.T).softmax(1))
    first, second = (torch.cat(parts).double() for parts in sides)
    joint = first.T @ second / len(first)
    expected = joint.sum(1, keepdim=True) * joint.sum(0)
    information = (joint * (joint / expected).log()).sum().item()
    return information, normalized_mutual_info_score(first.argmax(1), second.argmax(1))


def accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    table = np.zeros((CLASSES, CLASSES), int)
    np.add.at(table, (clusters, labels), 1)
    return table[linear_sum_assignment(-table)].sum() / len(labels)


def row(name: str, outcomes: list[Outcome], labels: np.ndarray) -> str:
    """A row of the table; of seeds that collapsed only the number is told."""
    whole = [outcome for outcome in outcomes if outcome.record]
    cells = [name, f"{len(outcomes) - len(whole)} of {len(outcomes)}"]
    pairs = [normalized_mutual_info_score(a.clusters, b.clusters) for a, b in combinations(whole, 2)]
    cells.append(f"{np.mean(pairs):.2f}" if pairs else "")
    cells += [mean(outcome.views[i] for outcome in whole) for i in range(2)]
    cells += [mean(outcome.record[key] for outcome in whole) for key in COLUMNS]
    cells.append(mean(100 * accuracy(outcome.clusters, labels) for outcome in whole))
    cells.append(mean(100 * normalized_mutual_info_score(labels, outcome.clusters) for outcome in whole))
    cells.append(mean(outcome.seconds for outcome in outcomes))
    return f"| {' | '.join(cells)} |"


def mean(values: Any) -> str:
    values = list(values)
    return f"{np.mean(values):.3g}" if values else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar", type=Path, help="cifar-10-binary.tar.gz; the digits without it")
    parser.add_argument("--images", type=int, default=5000, help="how many of CIFAR-10 (at most 10,000)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS, metavar="VARIANT")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images, labels = digits() if arguments.cifar is None else cifar(arguments.cifar, arguments.images)
    common = COMMON | (DIGITS if arguments.cifar is None else CIFAR) | {"epochs": arguments.epochs}
    print(
        "| variant | collapsed | seeds | information | views agree | stayed | entropy | mean probability "
        "| contrast of images | ACC | NMI | CPU s per run |"
    )
    print(f"|{12 * '---|'}", flush=True)
    for name in arguments.variants:
        outcomes = [train(images, common | VARIANTS[name] | {"seed": seed}) for seed in range(arguments.seeds)]
        print(row(name, outcomes, labels), flush=True)


if __name__ == "__main__":
    main()
