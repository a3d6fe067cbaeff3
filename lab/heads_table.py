"""All heads × seeds on features in a file: scores on the test split, CPU seconds, and the ceilings beside them.

    python lab/heads_table.py FEATURES.npz TABLE.csv [--heads scan temi] [--seeds 0 1 2 3 4]

Every seed of a head is fitted alone and appended to TABLE.csv as soon as it is there; a run that is interrupted goes on
from there. Clusters are kept in a folder beside it. A consensus reads all `--seeds` of its members, which are fitted
first. The tables of docs/results.md are printed at the end: all heads, how much of the gap between the best single head
and the linear probe (means over seeds) the consensus closes, and which head would be chosen without labels.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from heads_on_features import (
    HEADS,
    RANDOM,
    Data,
    Fitted,
    ceilings,
    find_neighbors,
    fit,
    half_whitens,
    members_of,
    nearest_by_half_whitened,
    only,
    random_partition,
    read,
)
from scipy.stats import spearmanr

from deepclust.core.device import choose_device, device_name
from deepclust.heads.kit.head import Partition
from deepclust.heads.kit.modularity import modularity

COLUMNS = ("features", "head", "seed", "acc", "nmi", "ari", "objective", "cpu_seconds", "seconds", "device", "failure")
CEILINGS = ("20-NN", "linear probe")
CONTROLS = ("consensus-published", "consensus-random")  # show what the members are worth, and are no choice

Row = dict[str, str]


class Table:
    """The rows that are there, in a CSV file; clusters in a folder beside it."""

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path.with_name(f"{path.stem}-clusters")
        self.folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(",".join(COLUMNS) + "\n")

    def rows(self) -> list[Row]:
        """All rows."""
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def append(self, data: Data, head: str, seed: int, **cells: object) -> None:
        """Add a row."""
        row = {"features": data.name, "head": head, "seed": seed, "device": device_name(choose_device()), **cells}
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)
        print(", ".join(f"{name} {value}" for name, value in row.items() if value != ""), flush=True)

    def clusters(self, data: Data, head: str, seed: int) -> Path:
        """Return the file that keeps the clusters of a row."""
        return self.folder / f"{data.name}-{head}-{seed}.npz"


def write_ceilings(table: Table, data: Data) -> None:
    """A row for each ceiling."""
    if all((data.name, name) in {(row["features"], row["head"]) for row in table.rows()} for name in CEILINGS):
        return
    for name, accuracy in ceilings(data).items():
        table.append(data, name, 0, acc=f"{accuracy:.4f}")


def write_seed(table: Table, data: Data, neighbors: np.ndarray, head: str, seed: int, seeds: Sequence[int]) -> None:
    """A row for one seed of a head."""
    members = [member for name in members_of(head) for member in partitions(table, data, name, seed, seeds)]
    result = fit(head, seed, data, neighbors, members)
    if isinstance(result, str):
        table.append(data, head, seed, failure=result)
        return
    keep(table.clusters(data, head, seed), result)
    table.append(
        data,
        head,
        seed,
        **{name: f"{result.scores[name]:.4f}" for name in ("acc", "nmi", "ari")},
        objective=f"{result.objective:.6g}",
        cpu_seconds=f"{result.cpu:.1f}",
        seconds=f"{result.wall:.1f}",
    )


def keep(path: Path, result: Fitted) -> None:
    """Write the clusters of both splits."""
    arrays = {"train": result.partition.assignments, "test": result.test}
    if result.partition.probabilities is not None:
        arrays["probabilities"] = result.partition.probabilities
    np.savez(path, **arrays)


def partitions(table: Table, data: Data, member: str, seed: int, seeds: Sequence[int]) -> list[Partition]:
    """Return a member's share in one seed of a consensus: the clusters of the training split of all its own `seeds`.

    A seed that failed gives none.
    """
    if member == RANDOM:
        return [random_partition(data, seed)]
    kept = [(s, path) for s in seeds if (path := table.clusters(data, member, s)).exists()]
    return [_read_partition(path, member, s) for s, path in kept]


def _read_partition(path: Path, member: str, seed: int) -> Partition:
    with np.load(path) as file:
        return Partition(member, seed, file["train"], file.get("probabilities"))


def summary(rows: list[Row]) -> str:
    """Mean and standard deviation over seeds, as a Markdown table; the highest accuracy first."""
    lines = []
    for features, head in dict.fromkeys((row["features"], row["head"]) for row in rows):
        own = [row for row in rows if (row["features"], row["head"]) == (features, head)]
        scored = [row for row in own if row["acc"]]
        cells = [_spread([100 * float(row[name]) for row in scored if row[name]]) for name in ("acc", "nmi", "ari")]
        cells.append(_spread([float(row["cpu_seconds"]) for row in scored if row["cpu_seconds"]]))
        failed = f", {len(own) - len(scored)} failed" if len(own) > len(scored) else ""
        best = np.mean([float(row["acc"]) for row in scored]) if scored else 0.0
        lines.append((features, -best, f"| {features} | {head} | {len(scored)}{failed} | {' | '.join(cells)} |"))
    header = "| features | head | seeds | ACC | NMI | ARI | CPU s per seed |\n|---|---|---|---|---|---|---|"
    return "\n".join([header, *(line for *_, line in sorted(lines))])


def gaps(rows: list[Row]) -> str:
    """Return the share of the gap from best single head to linear probe that the consensus closes, in Markdown."""
    lines = [
        "| features | best of | head | ACC | consensus | linear probe | share of the gap |",
        "|---|---|---|---|---|---|---|",
    ]
    for features in dict.fromkeys(row["features"] for row in rows):
        means = _means([row for row in rows if row["features"] == features])
        single = {head: mean for head, mean in means.items() if head in HEADS and not members_of(head)}
        plain = {head: mean for head, mean in single.items() if not half_whitens(head)}
        if plain and {"consensus", "linear probe"} <= means.keys():
            lines += [_gap(features, "single heads", single, means)]
            lines += [_gap(features, "those that do not half-whiten", plain, means)]
    return "\n".join(lines)


def _gap(features: str, among: str, heads: dict[str, float], means: dict[str, float]) -> str:
    best = max(heads, key=heads.__getitem__)
    reached, limit = means["consensus"], means["linear probe"]
    gap = limit - heads[best]
    share = f"{100 * (reached - heads[best]) / gap:.0f} %" if gap > 0 else "no gap"
    return f"| {features} | {among} | {best} | {heads[best]:.1f} | {reached:.1f} | {limit:.1f} | {share} |"


def choice(table: Table, data: Data) -> str:
    """Return the choice of the leaderboard: modularity of the seed of each head with the lowest objective, in Markdown.

    On the neighbors (20) among the half-whitened features of the test split.
    """
    neighbors = nearest_by_half_whitened(data.test.astype(np.float32))
    lines = []
    for head in dict.fromkeys(row["head"] for row in table.rows() if row["head"] not in CONTROLS):
        rows = [r for r in table.rows() if (r["features"], r["head"]) == (data.name, head) and r["objective"]]
        if rows:
            selected = min(rows, key=lambda row: float(row["objective"]))
            with np.load(table.clusters(data, head, int(selected["seed"]))) as file:
                lines.append((modularity(file["test"], neighbors, data.k), head, 100 * float(selected["acc"])))
    lines.sort(reverse=True)
    order = spearmanr([value for value, *_ in lines], [accuracy for *_, accuracy in lines]).statistic
    header = f"{len(lines)} heads, rank correlation with ACC {order:.2f}\n\n| head | modularity | ACC |\n|---|---|---|"
    return "\n".join([header, *(f"| {head} | {value:.3f} | {accuracy:.1f} |" for value, head, accuracy in lines)])


def _means(rows: list[Row]) -> dict[str, float]:
    """Mean accuracy of every head in percent, over the seeds that have one."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row["acc"]:
            scores.setdefault(row["head"], []).append(100 * float(row["acc"]))
    return {head: float(np.mean(values)) for head, values in scores.items()}


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    mean = f"{np.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help=".npz with x_train, x_test, y_train and y_test, or 'digits'")
    parser.add_argument("table", type=Path, help="CSV file that rows are appended to")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=list(HEADS))
    parser.add_argument("--classes", nargs="+", type=int, help="only images of these classes")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    arguments = parser.parse_args()
    data, table = read(arguments.features), Table(arguments.table)
    if arguments.classes:
        data = only(data, arguments.classes)
    write_ceilings(table, data)
    wanted = {*arguments.heads, *(name for head in arguments.heads for name in members_of(head))}
    for head in (name for name in HEADS if name in wanted):  # a consensus comes after its members
        neighbors = find_neighbors(data, head, table.folder)
        for seed in arguments.seeds:
            if (data.name, head, str(seed)) not in {(r["features"], r["head"], r["seed"]) for r in table.rows()}:
                write_seed(table, data, neighbors, head, seed, arguments.seeds)
    print(summary(table.rows()), gaps(table.rows()), choice(table, data), sep="\n\n")


if __name__ == "__main__":
    main()
