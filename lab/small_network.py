"""Pretraining methods in one small budget: 5,000 images of CIFAR-10, a small ResNet, 20 epochs of two views.

    DEEPCLUST_CIFAR10=cifar-10-binary.tar.gz python lab/small_network.py simclr secu --output small_network.csv

trains each method on the first 5,000 images of the archive with seeds 0 to 2, through the same commands as the workflow
(about 5 minutes of one core each), and scores it on the 10,000 test images beside the same network as it was
initialised: k-NN and linear probe on the features of the 5,000, k-means fitted on them, the method's own clusters.
Methods that start from another's backbone train that one first, for as many epochs. Rows that the output holds are
not computed again.

A method has learned if in every seed it ends without collapse, and k-NN or k-means gains at least `MARGIN` points over
the random initialisation; the status of the command is 1 if one has not. The options in `OPTIONS` follow from the
budget (fewer steps, warm-up and images, a smaller network), and were not chosen by scores, but for DeepCluster's epochs
and batches: with as few as the others have it fell behind the random initialisation in one seed.
"""

import argparse
import csv
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from commands import SCRIPTS, Files, command, prepared

sys.path.insert(0, str(SCRIPTS))

from deepclust.core.files import write_array, write_json
from deepclust.core.images import write_raw
from deepclust.data.loaders import cifar10

IMAGES = 5000
MARGIN = 3.0  # points of accuracy
SHARED = {"dataset": "cifar10", "architecture": "resnet10_w32", "stem": "stl", "batch_size": 128, "warmup_epochs": 1}
OPTIONS = {
    "simclr": {"learning_rate": 0.1},
    # Shorter epochs give the dual variables fewer steps to keep all clusters filled: smaller batches give them more.
    "secu": {"clusters": 10, "batch_size": 64, "learning_rate": 0.05},
    "scan": {"clusters": 10, "warmup_epochs": 0},
    # Hardly any image reaches the published 0.99 after so few epochs.
    "selflabel": {"clusters": 10, "warmup_epochs": 0, "threshold": 0.9},
    # Some 50 images for each cluster; colours and crops as for the other methods, as the published ones are for 224
    # pixels; fewer components than the features have dimensions; as many steps between clusterings as SeCu.
    "deepcluster": {
        "clusters": 100,
        "batch_size": 64,
        "sobel": False,
        "components": 64,
        "augmentation.crop_scale": [0.2, 1.0],
    },
    # As many clusters; SGD, since LARS is made for large batches, at the rate of SimCLR; a projector in proportion to
    # the network.
    "deepcluster_v2": {"clusters": 100, "optimizer": "sgd", "learning_rate": 0.1, "projection_hidden": 512},
    # The queue holds a tenth of the images; the default would hold nearly all of them.
    "tcc": {"clusters": 10, "instance_queue": 512},
}
EPOCHS = {"deepcluster": 2}  # times as many: it sees one view of an image where the others see two
START = {"scan": "simclr", "selflabel": "scan"}
NEIGHBORS = {"scan"}
GOES_ON = {"selflabel"}  # with the clusters of what it starts from
TRAINED = {
    "model": "model.json",
    "weights": "model.safetensors",
    "native": "native.safetensors",
    "log": "training.jsonl",
    "tensorboard": "tensorboard",
    "snapshots": "snapshots",
}
SCORES = {"knn": ("knn_acc",), "linear": ("linear_acc",), "kmeans": ("kmeans", "acc"), "native": ("native", "acc")}
KEYS = ("method", "seed", "epochs", "options")
COLUMNS = (*KEYS, "failure", "cpu_seconds", *SCORES, *(f"{name}_at_random" for name in SCORES))


def run(script: str, inputs: Files, outputs: Files, **options: object) -> str | None:
    """Run a command of the workflow; returns the last line of what went wrong, if it did."""
    words = command(script, inputs, outputs, **options)
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return None if done.returncode == 0 else (done.stderr.strip() or "no message").splitlines()[-1]


def write_images(archive: Path, folder: Path) -> None:
    """The training and the test images with their labels, as `prepare` leaves them."""
    for split, count in (("train", IMAGES), ("test", 10_000)):
        found = next(iter(cifar10.read_split(cifar10.Options(), split, [archive]).blocks))
        write_raw(folder / split, [found.images[:count]], found.images.shape[1:])
        write_array(folder / split / "labels.npy", found.labels[:count].astype("int32"))
    write_json(folder / "classes.json", list(cifar10.CLASSES))


def train(method: str, seed: int, epochs: int, images: Path, folder: Path) -> str | None:
    """Train a method, after what it starts from, into `folder`/method; returns why it failed."""
    train_images = prepared(images / "train")
    inputs: dict[str, Path] = {"images": train_images["images"], "manifests": train_images["manifest"]}
    options = {**SHARED, **OPTIONS.get(method, {}), "seed": seed, "epochs": epochs, "snapshot_every": epochs}
    if method in START:
        failure = train(START[method], seed, epochs, images, folder)
        if failure:
            return failure
        options["start_from"], inputs["start"] = START[method], folder / START[method] / "model.json"
    if method in GOES_ON:
        inputs["native"] = folder / START[method] / "native.safetensors"
    if method in NEIGHBORS:
        features, inputs["neighbors"] = folder / "features.npy", folder / "neighbors.npy"
        backbone = {"model": inputs["start"], "weights": inputs["start"].with_suffix(".safetensors")}
        run("extract_features", {**train_images, **backbone}, {"features": features})
        run("find_neighbors", {"features": features}, {"neighbors": inputs["neighbors"]})
    outputs = {name: folder / method / file for name, file in TRAINED.items()}
    return run("pretrain", inputs, outputs, method=method, **options)


def measure(method: str, seed: int, epochs: int, images: Path) -> dict[str, object]:
    """One row of the table."""
    row: dict[str, object] = {"method": method, "seed": seed, "epochs": epochs, "options": options_of(method)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as name:
        row["failure"] = train(method, seed, epochs, images, Path(name))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        row["cpu_seconds"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if row["failure"]:
            return row
        for suffix, backbone, epoch in (("", method, epochs), ("_at_random", root(method), 0)):
            snapshot = score(Path(name) / backbone / "snapshots", epoch, images)
            for column, path in SCORES.items():
                value = snapshot
                for key in path:
                    value = value.get(key) if value else None
                row[column + suffix] = "" if value is None else round(100 * value, 2)
    return row


def score(snapshots: Path, epoch: int, images: Path) -> dict:
    """Scores of one snapshot, by the command of the workflow."""
    chosen = snapshots.with_name(f"snapshot-{epoch}")
    chosen.mkdir()
    (chosen / f"epoch-{epoch}").symlink_to(snapshots / f"epoch-{epoch}")
    output = snapshots.with_name(f"scores-{epoch}.json")
    files = {"snapshots": chosen, "classes": images / "classes.json"}
    for role, split in (("train", images / "train"), ("score", images / "test")):
        named = prepared(split, labels=split / "labels.npy")
        files |= {f"{kind}_{role}": path for kind, path in named.items()}
    failure = run("score_snapshots", files, {"scores": output}, linear=True)
    if failure:
        raise RuntimeError(failure)
    [found] = json.loads(output.read_text())["epochs"]
    return found


def options_of(method: str) -> str:
    """The options of a method and of those it starts from, for the table."""
    own = json.dumps({**SHARED, **OPTIONS.get(method, {})}, sort_keys=True)
    return f"{options_of(START[method])}; {own}" if method in START else own


def root(method: str) -> str:
    """The method at the start of a chain: its network's initialisation is all that training begins with."""
    return root(START[method]) if method in START else method


def read_rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def summary(rows: list[dict[str, str]]) -> tuple[list[str], bool]:
    """Markdown table: mean ± standard deviation over seeds (gain over the initialisation); whether all learned."""
    lines = ["| method | seeds | k-NN | linear | k-means | own clusters | learned |", "|---|---|---|---|---|---|---|"]
    passed = True
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        ended = [row for row in own if not row["failure"]]
        learned = len(ended) == len(own) and all(max(gain(row, "knn"), gain(row, "kmeans")) >= MARGIN for row in own)
        passed = passed and learned
        verdict = "yes" if learned else "; ".join(row["failure"] for row in own if row["failure"]) or "no"
        lines.append(f"| {method} | {len(own)} | {' | '.join(shown(ended, name) for name in SCORES)} | {verdict} |")
    return lines, passed


def gain(row: dict[str, str], name: str) -> float:
    return float(row[name]) - float(row[f"{name}_at_random"])


def shown(rows: list[dict[str, str]], name: str) -> str:
    values = [float(row[name]) for row in rows if row[name]]
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    gained = f" ({statistics.mean(gain(row, name) for row in rows):+.1f})" if name != "native" else ""
    return f"{statistics.mean(values):.1f}{spread}{gained}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+", help="pretraining methods")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, required=True, help="CSV file; rows that it holds are kept")
    arguments = parser.parse_args()
    archive = os.environ.get("DEEPCLUST_CIFAR10")
    if not archive:
        parser.error("set DEEPCLUST_CIFAR10 to the path of cifar-10-binary.tar.gz")
    rows = read_rows(arguments.output)
    with tempfile.TemporaryDirectory() as name:
        images = Path(name)
        write_images(Path(archive), images)
        for seed in arguments.seeds:
            for method in arguments.methods:
                epochs = arguments.epochs * EPOCHS.get(method, 1)
                wanted = (method, str(seed), str(epochs), options_of(method))
                if any(tuple(row[key] for key in KEYS) == wanted for row in rows):
                    continue
                row = measure(method, seed, epochs, images)
                rows.append({column: "" if row.get(column) is None else str(row[column]) for column in COLUMNS})
                new = not arguments.output.exists()
                with arguments.output.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS)
                    if new:
                        writer.writeheader()
                    writer.writerow(rows[-1])
                print(rows[-1], flush=True)
    current = {(m, str(arguments.epochs * EPOCHS.get(m, 1)), options_of(m)) for m in arguments.methods}
    lines, passed = summary([r for r in rows if (r["method"], r["epochs"], r["options"]) in current])
    print(*lines, sep="\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
