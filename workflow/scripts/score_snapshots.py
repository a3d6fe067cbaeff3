"""Score the snapshots of a pretraining over its epochs: k-NN, k-means, and the method's own clusters."""

from pathlib import Path

from deepclust.core.command import Files, Job, JobArguments, run_job
from deepclust.evaluation.options import SnapshotScoringOptions


class Input(Files):
    snapshots: Path
    """Folder with `epoch-<n>/model.json`, its weights and `native.safetensors`."""
    images_train: Path
    """Prepared images (`images.bin`) that k-means is fitted on, and that vote in k-NN."""
    manifest_train: Path | None = None
    """`images.json` of these."""
    labels_train: Path
    """`labels.npy` of these."""
    images_score: Path
    """Prepared images that are scored; may be the same."""
    manifest_score: Path | None = None
    """`images.json` of these."""
    labels_score: Path
    """`labels.npy` of these."""
    classes: Path
    """`classes.json` of the dataset."""


class Output(Files):
    scores: Path
    """Scores of every epoch (.json)."""


class Arguments(JobArguments):
    """Score snapshots by features in the backbone's own way, and by k-means with as many clusters as classes."""

    input: Input
    output: Output
    options: SnapshotScoringOptions


def main(arguments: Arguments, job: Job) -> None:
    from deepclust.core.device import choose_devices, device_name
    from deepclust.core.errors import DeepclustError
    from deepclust.core.files import read_json, remove_tree, write_json

    folder = arguments.input.snapshots
    epochs = {int(path.name.removeprefix("epoch-")): path for path in folder.glob("epoch-*")}
    if not epochs:
        raise DeepclustError(f"{folder} holds no snapshots: set snapshot_every and train again")
    classes = len(read_json(arguments.input.classes))
    job.device = device_name(choose_devices()[0])
    scratch = arguments.output.scores.parent / ".state-snapshots"
    scores = []
    try:
        for epoch, snapshot in sorted(epochs.items()):
            scores.append({"epoch": epoch, **score_snapshot(arguments, snapshot, classes, scratch, job)})
            print(scores[-1], flush=True)
    finally:
        remove_tree(scratch)
    write_json(arguments.output.scores, {"clusters": classes, "knn": arguments.options.knn, "epochs": scores})


def score_snapshot(arguments: Arguments, folder: Path, classes: int, scratch: Path, job: Job) -> dict[str, object]:
    """Return how well the features of one snapshot tell the classes, and keep only these scores."""
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

    files, options = arguments.input, arguments.options
    features: dict[Path, Path] = {}
    for images in dict.fromkeys([files.images_train, files.images_score]):
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
    train = Split((features[files.images_train],), files.labels_train)
    score = Split((features[files.images_score],), files.labels_score)
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
    probes = probe_scores(train, score, options, options.linear, job.progress)
    remove_tree(scratch)
    return {**probes, **cluster_scores(score, clusters)}


if __name__ == "__main__":
    run_job("score_snapshots", Arguments, main)
