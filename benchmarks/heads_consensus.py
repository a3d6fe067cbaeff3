"""How much of the gap between the best single head and a linear probe the consensus of heads closes.

    python benchmarks/heads_consensus.py FEATURES … [--members kmeans-whiten scan turtle] [--seeds 0 1 2]

FEATURES are .npz files with x_train, x_test, y_train and y_test, or `digits` (the pixels of scikit-learn's digits). All
seeds of the members are fitted, then every seed of the consensus on all of these. Scores are accuracies on the test
split; CPU seconds are those of all threads, of the consensus without its members. The gap is between the mean of the
best member and the linear probe.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from heads_on_features import HEADS, MEMBERS, Data, Fitted, ceilings, find_neighbors, fit, read

HEADER = "| features | members: mean ACC of each | consensus | CPU s | 20-NN | linear probe | share of the gap |"


def measure(data: Data, members: list[str], seeds: list[int]) -> str:
    """A row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        neighbors = find_neighbors(data, Path(folder) / "neighbors.npy")
    fitted = {name: [result(fit(name, seed, data, neighbors)) for seed in seeds] for name in members}
    partitions = [one.partition for found in fitted.values() for one in found]
    combined = [result(fit("consensus", seed, data, neighbors, partitions)) for seed in seeds]
    means = {name: np.mean([one.scores["acc"] for one in found]) for name, found in fitted.items()}
    reached = np.array([one.scores["acc"] for one in combined])
    limits = ceilings(data)
    best, limit = max(means.values()), limits["linear probe"] or float("nan")
    cells = [
        data.name,
        ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items()),
        f"{100 * reached.mean():.1f} ± {100 * reached.std(ddof=min(1, len(seeds) - 1)):.1f}",
        f"{np.mean([one.cpu for one in combined]):.1f}",
        *(f"{100 * (value or float('nan')):.1f}" for value in limits.values()),
        f"{100 * (reached.mean() - best) / (limit - best):.0f} %",
    ]
    return f"| {' | '.join(cells)} |"


def result(found: Fitted | str) -> Fitted:
    """A seed that did not fail."""
    if isinstance(found, str):
        raise SystemExit(found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="+")
    parser.add_argument(
        "--members", nargs="+", choices=[name for name in HEADS if name != "consensus"], default=MEMBERS
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    print(HEADER, "|---|---|---|---|---|---|---|", sep="\n", flush=True)
    for source in arguments.features:
        print(measure(read(source), list(arguments.members), arguments.seeds), flush=True)


if __name__ == "__main__":
    main()
