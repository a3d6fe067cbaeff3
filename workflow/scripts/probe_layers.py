"""Measure how well labels can be read off each stage of a network, by linear classifiers."""

from pathlib import Path

from pydantic import Field

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.evaluation.options import LayerProbeOptions


class Arguments(JobArguments, LayerProbeOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Images and labels of the splits to fit on and to score; without the latter, one image in five is scored."""

    model: Path
    """Backbone (`model.json`)."""
    images_train: list[Path] = Field(min_length=1)
    """Prepared images (`images.bin`) of the training splits."""
    labels_train: list[Path] = Field(min_length=1)
    """`labels.npy` of the training splits."""
    images_score: list[Path] = Field(default_factory=list)
    """Prepared images of the scored splits."""
    labels_score: list[Path] = Field(default_factory=list)
    """`labels.npy` of the scored splits."""
    output: Path
    """The CSV file to write, one line per stage."""


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

    options = LayerProbeOptions(**{name: getattr(arguments, name) for name in LayerProbeOptions.model_fields})
    device = choose_device()
    train = labelled(arguments.images_train, arguments.labels_train)
    score = labelled(arguments.images_score, arguments.labels_score)
    records = probe_layers(train, score, Model.load(arguments.model, device), options, device, job.progress)
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(arguments.output, text.getvalue())

    job.device = device_name(device)
    job.options = options.model_dump()
    manifests = [path.with_suffix(".json") for path in [*arguments.images_train, *arguments.images_score]]
    read = [arguments.model, *manifests, *arguments.labels_train, *arguments.labels_score]
    job.inputs = {str(path): path for path in read}
    job.outputs = {"table": arguments.output}


if __name__ == "__main__":
    run_job("probe_layers", Arguments, main)
