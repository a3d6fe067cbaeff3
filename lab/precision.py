"""The gain from bf16 in training: forward, backward and update of a network on ready views, in bf16 against fp32.

SimCLR's networks on batches of 128 images of 32 x 32 pixels, two views each. Both take turns in one process; CPU time
where there is no GPU.

    python lab/precision.py [REPEATS]
"""

import statistics
import sys
from functools import partial
from pathlib import Path

import torch
from timing import Row, in_turns
from training import BATCH, STEPS, bare_step, make_trainer, random_images

from deepclust.pretraining import simclr

NETWORKS = {
    "ResNet-18, cifar stem": {"architecture": "resnet18", "stem": "cifar"},
    "resnet10_w32, cifar stem": {"architecture": "resnet10_w32", "stem": "cifar"},
    "resnet10_w32, stl stem": {"architecture": "resnet10_w32", "stem": "stl"},
}


def measure(name: str, options: dict, folder: Path, device: torch.device, repeats: int) -> list[Row]:
    trainer = make_trainer(simclr, options, folder, device)
    _, images = next(trainer.store.batches(torch.randperm(trainer.store.count), BATCH))
    views = trainer.method.views(images, 0)

    def step(bf16: bool) -> None:
        trainer.bf16 = bf16
        bare_step(trainer, views)

    work = {"fp32": partial(step, False), "bf16": partial(step, True)}
    times = in_turns(work, device, repeats, repeats=STEPS)
    fp32, bf16 = (statistics.median(times[kind]) for kind in work)
    gain = statistics.median(slow / fast for slow, fast in zip(times["fp32"], times["bf16"]))
    return [
        Row(f"{name}: fp32 (baseline)", BATCH / fp32, "images/s", None, 1.0),
        Row(f"{name}: bf16", BATCH / bf16, "images/s", None, gain),
    ]


def main(repeats: int = 5) -> list[Row]:
    with random_images() as (folder, device):
        parts = (measure(name, options, folder, device, repeats) for name, options in NETWORKS.items())
        return [row for part in parts for row in part]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if len(sys.argv) > 1 else 5), sep="\n")
