"""How tests start the command `pretrain`: its words, and what it writes."""

from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"


def words(method, images, folder):
    """Flags that every pretraining needs, for one in a folder of its own."""
    return [
        *("--method", method, "--input.images", str(images / "images.bin"), "--dataset", "noise"),
        *(word for name, file in written(folder).items() for word in (f"--output.{name}", str(file))),
    ]


def written(folder):
    """The outputs of a pretraining in a folder of its own."""
    files = {"model": "model.json", "weights": "model.safetensors", "native": "native.safetensors"}
    files |= {"log": "training.jsonl", "tensorboard": "tensorboard", "snapshots": "snapshots"}
    return {name: folder / file for name, file in files.items()}
