"""The network's share of a training step: ResNet-18 on images of 32 x 32 pixels, in batches of 128, two views each.

Baseline of each method: forward, backward and update of its network on views that are ready, without augmentation, loss
and the method's own state. Both are measured in turns in one process, as CPU time where there is no GPU, so that other
work on the machine matters little. Checkpoints: the time to write one against the time between two.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from timing import Row, in_turns

SCRIPTS = Path(__file__).resolve().parent.parent / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

import torch  # noqa: E402

from deepclust.core.device import choose_device  # noqa: E402
from deepclust.core.images import Images, write_raw  # noqa: E402
from deepclust.core.progress import Progress  # noqa: E402
from deepclust.models.model import Model, build_network  # noqa: E402
from deepclust.pretraining import scan, secu, simclr, tcc  # noqa: E402
from deepclust.pretraining.engine.checkpoint import StateFolder  # noqa: E402
from deepclust.pretraining.engine.image_store import ImageStore  # noqa: E402
from deepclust.pretraining.engine.method import ImageFacts  # noqa: E402
from deepclust.pretraining.engine.snapshots import Snapshots  # noqa: E402
from deepclust.pretraining.engine.trainer import Trainer  # noqa: E402
from deepclust.pretraining.engine.training_log import TrainingLog  # noqa: E402

BATCH = 128
STEPS = 50  # timed together on a GPU
COUNT = 50_000  # what a method keeps per image is as large as for CIFAR-10
CHECKPOINT_SECONDS = 300
METHODS = {
    "SimCLR": (simclr, {}),
    "SeCu, 10 heads": (secu, {"clusters": 10}),
    "TCC, 10 clusters": (tcc, {"clusters": 10}),
    "SCAN, 10 clusters": (scan, {"clusters": 10, "start_from": "random"}),
}


def make_trainer(module, options: dict, folder: Path, device: torch.device) -> Trainer:
    options = module.Options(dataset="random", batch_size=BATCH, **options)
    store = ImageStore([Images(folder / "images")], None, device, Progress(), 1)
    network = build_network({"name": options.architecture, "stem": options.stem, "in_channels": 3})
    neighbors = torch.zeros(COUNT, 20, dtype=torch.int32)  # for methods that need them
    method = module.METHOD(options, network, ImageFacts(COUNT, (32, 32), store.mean, store.std, neighbors))
    method.to(device).to(memory_format=torch.channels_last)
    model = Model(network, {"feature_dim": network.feature_dim})
    states = StateFolder(folder / module.__name__ / "model.json", "0")
    log = TrainingLog(states.path)
    snapshots = Snapshots(states.path, {}, every=0, epochs=options.epochs)
    return Trainer(method, model, store, options, states, log, Progress(), CHECKPOINT_SECONDS, snapshots)


def bare_step(trainer: Trainer, views: list[torch.Tensor]) -> None:
    trainer.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.bf16):
        outputs = trainer.method.embed(views)
    sum(output.float().square().mean() for output in outputs).backward()
    trainer.optimizer.step()


def measure(name: str, trainer: Trainer, repeats: int) -> list[Row]:
    """Two steps in turns: the bare one and the engine's."""
    device = trainer.device
    each = trainer.method.images_per_item
    indices, images = next(trainer.store.batches(torch.randperm(trainer.store.count), BATCH * each))
    indices = indices[::each]
    views = trainer.method.views(images, 0)
    work = {"bare": lambda: bare_step(trainer, views), "whole": lambda: trainer._step(images, indices)}
    times = in_turns(work, device, repeats, repeats=STEPS)
    bare, whole = (statistics.median(times[kind]) for kind in work)
    share = statistics.median(b / w for b, w in zip(times["bare"], times["whole"]))
    start = time.perf_counter()
    trainer._write_state()
    saving = time.perf_counter() - start
    return [
        Row(f"{name}: bare network (baseline)", BATCH / bare, "images/s", None, 1.0),
        Row(f"{name}: step of the engine", BATCH / whole, "images/s", 0.9 * BATCH / bare, share),
        Row(f"{name}: checkpoint", saving, "s", 0.02 * CHECKPOINT_SECONDS, saving / CHECKPOINT_SECONDS),
    ]


@contextmanager
def random_images() -> Iterator[tuple[Path, torch.device]]:
    """A folder with `images` to train on, and the device to train on; on a CPU with one thread."""
    device = choose_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (8 * BATCH, 3, 32, 32), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        write_raw(Path(folder) / "images", [pixels], (3, 32, 32))
        yield Path(folder), device


def main(repeats: int = 5) -> list[Row]:
    with random_images() as (folder, device):
        trainers = ((name, make_trainer(*method, folder, device)) for name, method in METHODS.items())
        return [row for name, trainer in trainers for row in measure(name, trainer, repeats)]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if len(sys.argv) > 1 else 5), sep="\n")
