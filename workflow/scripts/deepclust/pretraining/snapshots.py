"""Snapshots of a backbone while it is trained, to be scored afterwards: training itself sees no label."""

import shutil
from pathlib import Path
from typing import Any

from deepclust.common.files import atomic_folder
from deepclust.common.models import save_model
from deepclust.pretraining.method import Method
from deepclust.pretraining.native import FILE, write_native


class Snapshots:
    """Keeps `epoch-<n>/model.{json,safetensors}` and `native.safetensors`: every n epochs, at the start and at the end.

    They are written beside the training's state, so that a killed training goes on with those it has.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], every: int, epochs: int) -> None:
        """Args: `spec`, the description of the backbone at the end of `epochs`; `every` 0: no snapshots."""
        self.folder, self.spec, self.every, self.epochs = folder, spec, every, epochs

    def take(self, epoch: int, method: Method) -> None:
        """Keep the backbone after `epoch` epochs, if it is time."""
        if self.every and (epoch % self.every == 0 or epoch == self.epochs):
            model = self.folder / f"epoch-{epoch}" / "model.json"
            save_model(model, method.backbone, self.spec | {"epochs": epoch})
            write_native(model.with_name(FILE), method.native_head())

    def publish(self, target: Path) -> None:
        """Copy all snapshots to the folder `target`, whole or not at all. It is empty if there are none."""
        with atomic_folder(target) as folder:
            if self.folder.is_dir():
                ignored = shutil.ignore_patterns(".*")  # what killed processes left behind
                shutil.copytree(self.folder, folder, ignore=ignored, dirs_exist_ok=True)
