"""Snapshots of a backbone while it is trained, to be scored afterwards because training sees no label."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepclust.core.files import atomic_folder, explain_disk_errors
from deepclust.models.model import save_model
from deepclust.pretraining.engine.method import Method
from deepclust.pretraining.engine.native import FILE, write_native


class Snapshots:
    """Snapshots `epoch-<n>/model.{json,safetensors}` and `native.safetensors`: every n epochs, at start and end.

    They are written beside the training's state, so that a killed training goes on with those it has.
    """

    def __init__(self, folder: Path, spec: dict[str, Any], every: int, epochs: int) -> None:
        """Keep the settings.

        Args:
            folder: folder to write to.
            spec: description of the backbone at the end of `epochs`.
            every: number of epochs between two snapshots; 0 for none.
            epochs: number of epochs of the training.
        """
        self.folder, self.spec, self.every, self.epochs = folder, spec, every, epochs

    def take(self, epoch: int, method: Method) -> None:
        """Keep the backbone after `epoch` epochs, if it is time."""
        if self._is_due(epoch):
            model = self.folder / f"epoch-{epoch}" / "model.json"
            save_model(model, method.backbone, self.spec | {"epochs": epoch})
            write_native(model.with_name(FILE), method.native_head())

    def _is_due(self, epoch: int) -> bool:
        return self.every > 0 and (epoch % self.every == 0 or epoch == self.epochs)

    def publish(self, target: Path) -> None:
        """Copy all snapshots to the folder `target`, whole or not at all; it is empty if there are none."""
        with atomic_folder(target) as folder:
            _copy(self.folder.glob("epoch-*"), folder)

    def adopt(self, source: Path, epochs: int) -> None:
        """Keep the snapshots of the first `epochs` epochs of another training, which this one goes on from.

        Args:
            source: folder of that training's snapshots; it need not exist.

        Raises:
            DeepclustError: the disk is full or the folder cannot be written.
        """
        due = [source / f"epoch-{epoch}" for epoch in range(epochs + 1) if self._is_due(epoch)]
        with explain_disk_errors(self.folder):
            _copy(due, self.folder)


def _copy(snapshots: Iterable[Path], target: Path) -> None:
    # shutil.copytree is not used, because its error hides that the disk is full.
    for snapshot in snapshots:
        for file in snapshot.glob("[!.]*"):  # leaves out files of killed processes
            (target / snapshot.name).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / snapshot.name / file.name)
