"""The report page: one HTML file that needs nothing else."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from deepclust.core.errors import DeepclustError
from deepclust.core.figures import FigureFile, figures
from deepclust.core.progress import Progress
from deepclust.core.scores import show, show_share
from deepclust.reporting.choice import ChoiceOfK, read_choice
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

MOST_CLASSES = 30  # with a bar each; if there are more, the best and the worst

TEMPLATE, STYLE = (Path(__file__).with_name(name) for name in ("page.html", "page.css"))
_OWN_SECTIONS = {"leaderboard", "published", "runs", "jobs", "provenance"}  # their anchors are taken

Setting = tuple[str, str, str]


@dataclass(frozen=True)
class Content:
    """All that the page shows.

    Attributes:
        runs: all runs.
        figures: all figures: those of a run in a folder that ends in its run's path, those of a setting in a folder
            `<dataset>/<backbones>/<protocol>`.
        published: results from the literature.
        config: the resolved experiment.
        origin: the versions and devices that computed the results.
        jobs: the jobs' use of time and memory.
        leaderboard: the table over all runs, CSV, offered as a download.
        choices: files `<dataset>/<backbones>/k/<protocol>.json` of every choice of k.
    """

    runs: Sequence[ScoredRun]
    figures: Sequence[Path]
    published: Sequence[Published]
    config: dict[str, Any]
    origin: Origin
    jobs: Table
    leaderboard: Path
    choices: Sequence[Path] = ()


def render_page(content: Content, most_runs: int, progress: Progress) -> str:
    """Return the page as HTML.

    Args:
        most_runs: runs with a section of their own.

    Raises:
        DeepclustError: a file is no figure, or no choice of k.
    """
    runs = content.runs
    groups = by_dataset(runs)
    sections = _best_of_each(groups.values())[:most_runs]
    gained = gains(runs, _pixel_backbones(content.config))
    anchors = {run.path: f"run-{number}" for number, run in enumerate(sections, start=1)}
    with progress.task("page", len(sections), "runs") as task:
        details = []
        for run in sections:
            details.append(_section(run, figures_of(run, content.figures)))
            task.advance()
    parts = _parts(content.figures, {_setting_of(path): read_choice(path) for path in content.choices})
    return _template().render(
        style=STYLE.read_text(encoding="utf-8"),
        runs=runs,
        groups=groups,
        boards={dataset: leaderboard_table(group, gained) for dataset, group in groups.items()},
        comparisons={dataset: published_table(group, content.published) for dataset, group in groups.items()},
        choices_of_heads={dataset: head_table(group) for dataset, group in groups.items()},
        gains=_best_gains(groups, gained),
        sections=details,
        anchors=anchors,
        leaderboard_csv=data_uri(content.leaderboard.read_bytes(), "text/csv"),
        board=parts.pop("Leaderboard", []),
        parts={title: (_anchor(title), drawn) for title, drawn in parts.items()},
        facts=content.origin,
        jobs=content.jobs,
        config=_as_yaml(content.config),
        facts_of=_facts_of,
        spread=seed_spread,
        show_share=show_share,
    )


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["marked"] = _marked
    return environment.get_template(TEMPLATE.name)


def _marked(text: str) -> Markup:
    """Return a text of a figure's file as HTML: ``code`` is set as code."""
    return Markup(re.sub("``(.+?)``", r"<code>\1</code>", str(escape(text))))


def _anchor(title: str) -> str:
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    return f"figures-{name}" if name in _OWN_SECTIONS else name


def read_config(path: Path) -> dict[str, Any]:
    """Read the resolved experiment, YAML or JSON.

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
    """Return the facts that all runs of a dataset have in common, in a few words."""
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
    """Return all runs: the best of every dataset, then the second of every dataset, and so on."""
    by_rank = sorted(
        ((rank, number, run) for number, group in enumerate(groups) for rank, run in enumerate(group)),
        key=lambda item: item[:2],
    )
    return [run for _, _, run in by_rank]


def _best_gains(groups: dict[str, list[ScoredRun]], gained: dict[str, Gain]) -> list[Gain]:
    """Return for each dataset the largest gain over raw pixels."""
    best = []
    for group in groups.values():
        candidates = [gained[run.path] for run in group if run.path in gained]
        if candidates:
            best.append(max(candidates, key=lambda gain: gain.points))
    return best


def _section(run: ScoredRun, files: dict[str, Path]) -> dict[str, Any]:
    """Return the values that the template shows of one run."""
    shown = {} if run.failure else files
    return {
        "run": run,
        "scores": _scores(run),
        "figures": [_of_run(run, figure, shown[name]) for name, figure in figures("run").items() if name in shown],
        "classes": [] if run.failure else _classes(run),
        "seeds": seed_table(run),
        "cost": _cost(run),
    }


def _of_run(run: ScoredRun, figure: FigureFile, path: Path) -> dict[str, Any]:
    facts = figure.facts
    labelled = facts.title, facts.explanation
    title, text = labelled if run.metric == "acc" else facts.without_labels or labelled
    alternative = f"{facts.alternative or title} of {run.path}"
    return {"title": title, "text": text, "image": embed(path), "look": facts.look, "alternative": alternative}


def _parts(files: Sequence[Path], choices: dict[Setting, ChoiceOfK]) -> dict[str, list[dict[str, Any]]]:
    """Return every section's figures, those of settings with a title and, if they show it, the chosen k."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for name, figure in figures().items():
        facts, paths = figure.facts, [path for path in files if path.stem == name]
        if facts.scope != "run" and paths:
            chosen = choices if "choice" in facts.reads else {}
            drawn = [_drawn(figure, path, chosen) for path in paths]
            shown = {"explanation": facts.explanation, "look": facts.look, "drawn": drawn}
            parts.setdefault(facts.heading, []).append(shown)
    return parts


def _drawn(figure: FigureFile, path: Path, choices: dict[Setting, ChoiceOfK]) -> dict[str, Any]:
    alternative = figure.facts.alternative or figure.facts.title
    if figure.facts.scope == "experiment":
        return {"title": "", "choice": None, "image": embed(path), "alternative": alternative}
    setting = _setting_of(path)
    title = " · ".join(setting)
    return {
        "title": title,
        "choice": choices.get(setting),
        "image": embed(path),
        "alternative": f"{alternative} of {title}",
    }


def _setting_of(path: Path) -> Setting:
    """Return the setting (dataset, backbones, protocol) of `…/<protocol>/<figure>.png` or `…/k/<protocol>.json`."""
    dataset, backbones, last, name = path.parts[-4:]
    return dataset, backbones, Path(name).stem if last == "k" else last


def _scores(run: ScoredRun) -> list[tuple[str, str, str]]:
    """Return name, value and detail of every score."""
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
    """Return each class's accuracy under the selected seed, best first; among many, only the best and the worst."""
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
