"""Measure how well the features at each stage of a network tell the labels, by linear classifiers."""

from pathlib import Path

from pydantic import Field

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.evaluation.options import LayerProbeOptions


class Input(Files):
    """Images and labels of the splits to fit on and to score; without the latter, one image in five is scored."""

    model: Path
    """Backbone (`model.json`)."""
    weights: Path | None = None
    """Its weights (`model.safetensors`, beside it)."""
    train_images: list[Path] = Field(min_length=1)
    """Prepared images (`images.bin`) of the training splits."""
    train_manifests: list[Path] = []
    """`images.json` of these."""
    train_labels: list[Path] = Field(min_length=1)
    """`labels.npy` of these."""
    score_images: list[Path] = []
    """Prepared images of the scored splits."""
    score_manifests: list[Path] = []
    """`images.json` of these."""
    score_labels: list[Path] = []
    """`labels.npy` of these."""


class Output(Files):
    table: Path
    """The scores (CSV), one line per stage."""


class Arguments(JobArguments):
    """Measure how well the features at each stage of a network tell the labels."""

    input: Input
    output: Output
    options: LayerProbeOptions


def main(arguments: Arguments, job: Job) -> None:
    import csv
    import io

    from deepclust.core.device import choose_device, device_name
    from deepclust.core.files import write_text
    from deepclust.core.images import Images
    from deepclust.evaluation.inputs import read_labels
    from deepclust.evaluation.layer_probes import LabelledImages, probe_layers
    from deepclust.models.model import Model

    def labelled(images: list[Path], labels: list[Path]) -> LabelledImages:
        return LabelledImages.of([Images(path.parent) for path in images], [read_labels(path) for path in labels])

    device, files = choose_device(), arguments.input
    train = labelled(files.train_images, files.train_labels)
    score = labelled(files.score_images, files.score_labels)
    records = probe_layers(train, score, Model.load(files.model, device), arguments.options, device, job.progress)
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(arguments.output.table, text.getvalue())
    job.device = device_name(device)


if __name__ == "__main__":
    run_job("probe_layers", Arguments, main)
