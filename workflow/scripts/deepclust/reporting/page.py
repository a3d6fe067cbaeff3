"""The report page: one HTML file that needs nothing else."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.core.scores import show, show_share
from deepclust.reporting.choice_of_k import read_choice
from deepclust.reporting.embedding import data_uri, embed, figures_of
from deepclust.reporting.head_table import head_table
from deepclust.reporting.published import Published
from deepclust.reporting.records import Origin
from deepclust.reporting.runs import ScoredRun, by_dataset, seed_spread
from deepclust.reporting.tables import (
    Gain,
    Table,
    duration,
    gains,
    interval,
    leaderboard_table,
    published_table,
    seed_table,
)

MOST_CLASSES = 30  # with a bar each; of more, the best and the worst

# name of the figure's file, title, explanation
FIGURES = (
    ("confusion", "Confusion", "Rows are classes, columns clusters in the order of their matched classes."),
    ("map", "Map", "t-SNE of a fixed sample of the features: nearby points are similar images."),
    ("gallery", "Gallery", "Random images of the clusters; outlined ones are not of the cluster's class."),
)

TEMPLATE, STYLE = (Path(__file__).with_name(name) for name in ("page.html", "page.css"))


def render_page(
    runs: Sequence[ScoredRun],
    figures: Sequence[Path],
    published: Sequence[Published],
    config: dict[str, Any],
    facts: Origin,
    jobs: Table,
    *,
    leaderboard: Path,
    leaderboard_figure: Path,
    training_figure: Path | None,
    snapshots_figure: Path | None,
    layer_figure: Path | None,
    choices: Sequence[tuple[Path, Path]],
    most_runs: int,
    progress: Progress,
) -> str:
    """The page as HTML.

    Args:
        runs: all runs.
        figures: the figures of the runs, each in a folder that ends in its run's path.
        config: the resolved experiment.
        facts: what computed the results.
        jobs: what the jobs used.
        leaderboard: the table over all runs, CSV, offered as a download.
        choices: for every choice of k the file `<dataset>/<backbones>/k/<protocol>.json` and its figure.
        most_runs: runs with a section of their own.
    """
    groups = by_dataset(runs)
    sections = _best_of_each(groups.values())[:most_runs]
    gained = gains(runs, _pixel_backbones(config))
    anchors = {run.path: f"run-{number}" for number, run in enumerate(sections, start=1)}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with progress.task("page", len(sections), "runs") as task:
        details = []
        for run in sections:
            details.append(_section(run, figures_of(run, figures)))
            task.advance()
    return environment.get_template(TEMPLATE.name).render(
        style=STYLE.read_text(encoding="utf-8"),
        runs=runs,
        groups=groups,
        boards={dataset: leaderboard_table(group, gained) for dataset, group in groups.items()},
        comparisons={dataset: published_table(group, published) for dataset, group in groups.items()},
        choices_of_heads={dataset: head_table(group) for dataset, group in groups.items()},
        gains=_best_gains(groups, gained),
        sections=details,
        anchors=anchors,
        leaderboard_csv=data_uri(leaderboard.read_bytes(), "text/csv"),
        leaderboard_figure=embed(leaderboard_figure),
        training_figure=embed(training_figure) if training_figure is not None else None,
        snapshots_figure=embed(snapshots_figure) if snapshots_figure is not None else None,
        layer_figure=embed(layer_figure) if layer_figure is not None else None,
        choices=[_choice(*files) for files in choices],
        facts=facts,
        jobs=jobs,
        config=_as_yaml(config),
        facts_of=_facts_of,
        spread=seed_spread,
        show_share=show_share,
    )


def read_config(path: Path) -> dict[str, Any]:
    """The resolved experiment, YAML or JSON.

    Raises:
        DeepclustError: it is neither.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DeepclustError(f"{path} is not YAML: {error}") from error
    if not isinstance(config, dict):
        raise DeepclustError(f"{path} is not an experiment")
    return config


def _as_yaml(config: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)
    return text


def _facts_of(group: Sequence[ScoredRun]) -> str:
    """What all runs of a dataset have in common, in a few words."""
    some = group[0]
    facts = [f"{len(some.classes)} classes" if some.classes else "no labels"]
    if len({(run.protocol, run.split) for run in group}) == 1:
        labelled = f", {some.labelled:,} of them labelled" if 0 < some.labelled < some.images else ""
        facts.insert(0, f"{some.protocol}: {some.images:,} images ({some.split}){labelled}{some.skipped_text}")
    if len({run.k_text for run in group}) == 1:
        facts.append(f"k = {some.k_text}")
    return ", ".join(facts)


def _pixel_backbones(config: dict[str, Any]) -> set[str]:
    backbones = config.get("backbones") or {}
    return {name for name, options in backbones.items() if (options or {}).get("method") == "pixels"}


def _best_of_each(groups: Iterable[list[ScoredRun]]) -> list[ScoredRun]:
    """All runs: the best of every dataset, then the second of every dataset, and so on."""
    by_rank = sorted(
        ((rank, number, run) for number, group in enumerate(groups) for rank, run in enumerate(group)),
        key=lambda item: item[:2],
    )
    return [run for _, _, run in by_rank]


def _best_gains(groups: dict[str, list[ScoredRun]], gained: dict[str, Gain]) -> list[Gain]:
    """For each dataset the largest gain over raw pixels."""
    best = []
    for group in groups.values():
        candidates = [gained[run.path] for run in group if run.path in gained]
        if candidates:
            best.append(max(candidates, key=lambda gain: gain.points))
    return best


def _section(run: ScoredRun, files: dict[str, Path]) -> dict[str, Any]:
    """What the template shows of one run."""
    labelled = run.metric == "acc"
    shown = {} if run.failure else files
    return {
        "run": run,
        "scores": _scores(run),
        "figures": [
            (
                name,
                title if labelled or name != "confusion" else "Cluster sizes",
                text if labelled else "",
                embed(shown[name]),
            )
            for name, title, text in FIGURES
            if name in shown
        ],
        "classes": [] if run.failure else _classes(run),
        "seeds": seed_table(run),
        "cost": _cost(run),
    }


def _choice(path: Path, figure: Path) -> dict[str, Any]:
    """What the template shows of one choice of k."""
    dataset, backbones, _, name = path.parts[-4:]
    choice = read_choice(path)
    title = f"{dataset} · {backbones} · {Path(name).stem}"
    return {"title": title, "k": choice.k, "reason": choice.reason, "figure": embed(figure)}


def _scores(run: ScoredRun) -> list[tuple[str, str, str]]:
    """Name, value and detail of every score."""
    names = [("acc", "ACC"), ("nmi", "NMI"), ("ari", "ARI"), ("ami", "AMI"), ("purity", "Purity")]
    names += [("silhouette", "Silhouette"), ("neighbor_agreement", "Neighbor agreement")]
    scores = [
        (title, seed_spread(run, name), interval(run, name)) for name, title in names if run.mean(name) is not None
    ]
    if run.stability is not None:
        scores.append(("Stability between seeds", show(run.stability, "ari"), ""))
    for name, title in (("knn_acc", "k-NN ceiling"), ("linear_acc", "Linear ceiling")):
        if name in run.probe:
            scores.append((title, show(run.probe[name], "acc"), ""))
    return scores


def _classes(run: ScoredRun) -> list[tuple[str, float]]:
    """Accuracy of each class under the selected seed, best first; of many, only the best and the worst."""
    known = [(name, value) for name, value in zip(run.classes, run.chosen.per_class) if not np.isnan(value)]
    known.sort(key=lambda item: -item[1])
    if len(known) <= MOST_CLASSES:
        return known
    half = MOST_CLASSES // 2
    return known[:half] + known[-half:]


def _cost(run: ScoredRun) -> list[tuple[str, str]]:
    cost = run.cost
    shown = [("Clustering, all seeds", duration(cost["seconds"]) if cost.get("seconds") is not None else "")]
    if cost.get("peak_memory_mb") is not None:
        shown.append(("Peak memory", f"{cost['peak_memory_mb']:,.0f} MiB"))
    shown.append(("Device", cost.get("device") or ""))
    return [(name, value) for name, value in shown if value]
