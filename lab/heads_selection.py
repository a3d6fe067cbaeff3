"""Self-training of a consensus on selected images: those that are sure, and agree with their neighbors.

    python lab/heads_selection.py FEATURES.npz TABLE.csv [--head consensus] [--seeds 0 1 2 3 4]

Reads what `heads_table.py` kept beside TABLE.csv. A logistic regression on the half-whitened features learns the
clusters of the selected training images, all clusters weighted alike, and gives every image a new cluster; then once
more with those. For each selection: its share of the images, accuracy on the test split and modularity on the training
split.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from heads_on_features import HEADS, METHODS, Data, read
from heads_table import Table
from sklearn.linear_model import LogisticRegression

from deepclust.evaluation.metrics import Comparison
from deepclust.heads.kit.modularity import modularity
from deepclust.heads.kit.normalization import fit_normalization, normalized_blocks

SELECTIONS = ((0.0, 0.0), (0.9, 0.5), (0.9, 0.8), (0.99, 0.9))  # least probability, least share of equal neighbors
ROUNDS = 2
NEIGHBORS = 20
PENALTY = 1e-4  # times the sum of the squared weights, beside the mean loss

Float32 = npt.NDArray[np.float32]


def half_whitened(data: Data) -> tuple[Float32, Float32]:
    """Features of both splits as the consensus has them."""
    options = METHODS["consensus"].Options(**HEADS["consensus"][1])
    train, normalization = fit_normalization([data.train], options)
    test = np.concatenate([rows for _, rows in normalized_blocks([data.test], options, normalization)])
    scale = np.float32(np.sqrt(train.shape[1]))
    return train * scale, test * scale


def selected(
    probabilities: Float32, graph: npt.NDArray[np.int32], sure: float, agreeing: float
) -> npt.NDArray[np.bool_]:
    """Which images are sure of their cluster, and share it with their neighbors."""
    clusters = probabilities.argmax(1)
    share = (clusters[graph] == clusters[:, None]).mean(1)
    chosen: npt.NDArray[np.bool_] = (probabilities.max(1) >= sure) & (share >= agreeing)
    return chosen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help=".npz with x_train, x_test, y_train and y_test, or 'digits'")
    parser.add_argument("table", type=Path, help="the CSV file of heads_table.py")
    parser.add_argument("--head", default="consensus")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    arguments = parser.parse_args()
    data, table = read(arguments.features), Table(arguments.table)
    train, test = half_whitened(data)
    graph = np.load(table.folder / f"{data.name}-half-neighbors.npy")[:, :NEIGHBORS]
    print("| sure | neighbors | images | ACC | modularity |\n|---|---|---|---|---|")
    found: dict[tuple[float, float], list[list[float]]] = {selection: [] for selection in SELECTIONS}
    before = []
    for seed in arguments.seeds:
        with np.load(table.clusters(data, arguments.head, seed)) as file:
            start, clusters = file["probabilities"].astype(np.float32), file["test"]
        before.append([1.0, accuracy(data, clusters), modularity(start.argmax(1), graph, data.k)])
        for selection in SELECTIONS:
            probabilities = start
            for _ in range(ROUNDS):
                chosen = selected(probabilities, graph, *selection)
                strength = 1 / (2 * PENALTY * chosen.sum())
                classifier = LogisticRegression(C=strength, class_weight="balanced", max_iter=200)
                classifier.fit(train[chosen], probabilities[chosen].argmax(1))
                probabilities = classifier.predict_proba(train).astype(np.float32)
            now = modularity(probabilities.argmax(1), graph, data.k)
            found[selection].append([chosen.mean(), accuracy(data, classifier.predict(test)), now])
    print(row("-", "-", before))
    for (sure, agreeing), results in found.items():
        print(row(f"{sure}", f"{agreeing}", results))


def accuracy(data: Data, clusters: npt.NDArray[np.integer]) -> float:
    """Scores of the test split, in percent."""
    return 100 * Comparison.of(data.test_labels, clusters).score()["acc"]


def row(sure: str, agreeing: str, results: list[list[float]]) -> str:
    """Means over seeds, and the standard deviation of the accuracy."""
    share, score, value = np.mean(results, axis=0)
    spread = np.std(np.array(results)[:, 1], ddof=1) if len(results) > 1 else 0.0
    return f"| {sure} | {agreeing} | {100 * share:.0f} % | {score:.1f} ± {spread:.1f} | {value:.3f} |"


if __name__ == "__main__":
    main()
