"""Score the snapshots of a pretraining over its epochs: k-NN, k-means, and the method's own clusters."""

from pathlib import Path

from deepclust.core.command import Job, JobArguments, run_job
from deepclust.evaluation.options import ProbeOptions, SnapshotOptions


class Arguments(JobArguments, ProbeOptions, SnapshotOptions):  # type: ignore[misc]  # pydantic merges the configs
    """Features are read out in the backbone's own way; k-means finds as many clusters as there are classes."""

    snapshots: Path
    """Folder with `epoch-<n>/model.json`, its weights and `native.safetensors`."""
    images_train: Path
    """Prepared images (`images.bin`) that k-means is fitted on, and that vote in k-NN."""
    labels_train: Path
    """`labels.npy` of these."""
    images_score: Path
    """Prepared images that are scored; may be the same."""
    labels_score: Path
    """`labels.npy` of these."""
    classes: Path
    """`classes.json` of the dataset."""
    output: Path
    """The JSON file to write."""


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.device import choose_devices, device_name
    from deepclust.core.errors import DeepclustError
    from deepclust.core.files import read_json, remove_tree, write_json

    options = ProbeOptions(**{name: getattr(arguments, name) for name in ProbeOptions.model_fields})
    epochs = {int(path.name.removeprefix("epoch-")): path for path in arguments.snapshots.glob("epoch-*")}
    if not epochs:
        raise DeepclustError(f"{arguments.snapshots} holds no snapshots: set snapshot_every and train again")
    classes = len(read_json(arguments.classes))
    job.device = device_name(choose_devices()[0])
    scratch = arguments.output.parent / ".state-snapshots"
    scores = []
    try:
        for epoch, folder in sorted(epochs.items()):
            scores.append({"epoch": epoch, **score_snapshot(arguments, options, folder, classes, scratch, job)})
            print(scores[-1], flush=True)
    finally:
        remove_tree(scratch)
    write_json(arguments.output, {"clusters": classes, "knn": arguments.knn, "epochs": scores})

    job.options = {name: getattr(arguments, name) for name in [*ProbeOptions.model_fields, "linear"]}
    read = {arguments.images_train.with_suffix(".json"), arguments.images_score.with_suffix(".json"), arguments.classes}
    read |= {arguments.labels_train, arguments.labels_score, *arguments.snapshots.glob("*/model.json")}
    job.inputs = {str(path): path for path in sorted(read)}
    job.outputs = {"scores": arguments.output}


def score_snapshot(
    arguments: Arguments, options: ProbeOptions, folder: Path, classes: int, scratch: Path, job: Job
) -> dict[str, object]:
    """Features of one snapshot, and what they are worth. Only the scores are kept."""
    import numpy as np

    from deepclust.core.device import choose_devices
    from deepclust.core.files import remove_tree
    from deepclust.core.fingerprint import code_digest
    from deepclust.core.images import Images
    from deepclust.evaluation.probes import Split
    from deepclust.evaluation.snapshots import cluster_scores, probe_scores
    from deepclust.features.extract import extract
    from deepclust.features.options import ExtractionOptions
    from deepclust.heads import kmeans, native
    from deepclust.heads.kit.head import TrainingData

    features: dict[Path, Path] = {}
    for images in dict.fromkeys([arguments.images_train, arguments.images_score]):
        features[images] = scratch / str(len(features)) / "features.npy"
        extract(
            Images(images.parent),
            folder / "model.json",
            features[images],
            ExtractionOptions(),
            devices=choose_devices(),
            code=code_digest("score_snapshots"),
            progress=job.progress,
        )
    train = Split((features[arguments.images_train],), arguments.labels_train)
    score = Split((features[arguments.images_score],), arguments.labels_score)
    fitted, scored = (np.load(split.features[0], mmap_mode="r") for split in (train, score))
    own = folder / "native.safetensors"
    heads = {"kmeans": (kmeans, classes), "native": (native, native.clusters_in(own))}
    clusters = {}
    for name, (head, k) in heads.items():
        if k > 1:
            head_options = head.Options()
            [result] = head.fit(TrainingData([fitted], native=own), k, [0], head_options, job.progress)
            if result.failure is None:
                clusters[name] = head.predict(result.weights, [scored], head_options).assignments
    probes = probe_scores(train, score, options, arguments.linear, job.progress)
    remove_tree(scratch)
    return {**probes, **cluster_scores(score, clusters)}


if __name__ == "__main__":
    run_job("score_snapshots", Arguments, main)
