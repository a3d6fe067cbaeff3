"""Clusters of image files by a run of the workflow, with its own backbones read out in its own way."""

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepclust.api.clustering import FittedHead, load
from deepclust.api.extraction import Extracted, extract_files, named_images, reading_options
from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json
from deepclust.features.options import ExtractionOptions
from deepclust.models.identity import features_identity
from deepclust.planning.layout import RULES, backbone_model


@dataclass(frozen=True)
class ImageCluster:
    """The outcome for one file.

    Attributes:
        path: relative to the folder or list that it came from.
        cluster: None for a file that was skipped.
        probability: of that cluster; None where the head gives none.
        skipped: why the file was skipped; empty for images.
    """

    path: str
    cluster: int | None = None
    probability: float | None = None
    skipped: str = ""


def predict_images(run: Path, place: Path) -> list[ImageCluster]:
    """Return the clusters of images, in the order of their paths or of their list, and after them what was skipped.

    Args:
        run: folder of a run, or the `clusters.safetensors` in it; its backbones lie where the workflow put them.
        place: a folder, a list, or one image.

    Raises:
        DeepclustError: there is no such run, a backbone is gone or another one now, or there are no images.
    """
    place = place.absolute()
    results = _Results.of(run)
    root, names, passed_over = named_images(place)
    models = [results.model(number) for number in range(len(results.backbones))]
    found = []
    for number, model in enumerate(models):
        with tempfile.TemporaryDirectory(prefix="deepclust-") as folder:
            reading, channels = results.reading(number), results.channels()
            found.append(extract_files(root, names, model, reading, channels, on_error="skip", folder=Path(folder)))
    return [*_clusters(results.head, found), *_skipped(passed_over + found[0].skipped)]


@dataclass(frozen=True)
class _Results:
    """The results that a run belongs to.

    Attributes:
        folder: the folder that paths of results are relative to.
        dataset: name of the dataset of the run.
        head: its fitted head.
    """

    folder: Path
    dataset: str
    head: FittedHead

    @classmethod
    def of(cls, run: Path) -> "_Results":
        """Find the results around a run.

        Raises:
            DeepclustError: there is no run, or it does not lie where the workflow puts runs.
        """
        head = load(run)
        pattern = RULES["cluster"].outputs["clusters"]
        place = re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(pattern)))
        assert head.path is not None
        depth = len(Path(pattern).parts)
        words = place.fullmatch("/".join(head.path.parts[-depth:]))
        if words is None:
            raise DeepclustError(
                f"{head.path} does not lie in the results of a workflow ({pattern}), so its backbones are not known: "
                "use deepclust.load in Python"
            )
        return cls(head.path.parents[depth - 1], words["dataset"], head)

    @property
    def backbones(self) -> list[str]:
        """Names of the backbones of the run."""
        names: list[str] = self.head.description["backbones"]
        return names

    def model(self, number: int) -> Path:
        """Return the `model.json` of a backbone.

        Raises:
            DeepclustError: it is gone, or makes other features than those that the run was fitted on.
        """
        name = self.backbones[number]
        path = self.folder / backbone_model(name)
        if not path.is_file():
            raise DeepclustError(f"{path} is missing: the run cannot read images without its backbone")
        reading = self.reading(number).model_dump(mode="json")
        fitted = (self.head.description.get("identities") or {number: None})[number]
        if features_identity(path, reading) != fitted:
            raise DeepclustError(
                f"{path} is not the backbone, or not read out in the way, that the run was fitted on: run the workflow "
                "again"
            )
        return path

    def reading(self, number: int) -> ExtractionOptions:
        """Return how images were turned into features, as far as their record is there; else the backbone's own way."""
        pattern = RULES["extract_features"].outputs["provenance"]
        for record in self._made(pattern, backbone=self.backbones[number]):
            recorded = read_json(record)["options"]
            return reading_options({key: recorded[key] for key in ExtractionOptions.model_fields if key in recorded})
        return ExtractionOptions()

    def channels(self) -> Any:
        """Return how many channels the images of the run have: 1 or 3, which is also taken if they are gone."""
        return next((read_json(path)["channels"] for path in self._made(RULES["prepare"].outputs["manifest"])), 3)

    def _made(self, pattern: str, **words: str) -> list[Path]:
        """The files of all splits of the dataset that are there."""
        return sorted(self.folder.glob(pattern.format(dataset=self.dataset, split="*", **words)))


def _clusters(head: FittedHead, found: list[Extracted]) -> Iterator[ImageCluster]:
    features = [each.features for each in found]
    assigned = head.assign(features)
    probabilities = assigned.probabilities
    for row, (name, cluster) in enumerate(zip(found[0].names, assigned.assignments.tolist())):
        probability = None if probabilities is None else float(probabilities[row, cluster])
        yield ImageCluster(name, cluster, probability)


def _skipped(files: list[tuple[str, str]]) -> Iterator[ImageCluster]:
    return (ImageCluster(path, skipped=reason) for path, reason in sorted(files))
