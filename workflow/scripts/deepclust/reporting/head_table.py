"""Table of the head that is chosen without labels, and how far it is from the best."""

from collections.abc import Sequence

from deepclust.core.scores import show
from deepclust.evaluation.head_choice import HeadChoice, choose_heads
from deepclust.reporting.runs import ScoredRun
from deepclust.reporting.tables import Cell, Column, Table


def head_choices(runs: Sequence[ScoredRun]) -> list[HeadChoice]:
    """Choose among the heads on the same features, by the modularity of their selected seeds.

    Heads whose every seed failed are not among them.
    """
    settings = [(run.dataset, run.backbones, run.k_text, run.protocol) for run in runs]
    scores = [{} if run.failure else run.chosen.scores for run in runs]
    modularity, accuracy = ([s.get(name) for s in scores] for name in ("modularity", "acc"))
    return choose_heads(settings, [run.head for run in runs], modularity, accuracy)


def head_table(group: Sequence[ScoredRun]) -> Table | None:
    """Return the choices among a dataset's runs, with their oracle if there are labels; None without a choice."""
    choices = head_choices(group)
    if not choices:
        return None
    labelled = any(choice.best is not None for choice in choices)
    columns = [Column("Backbone", numeric=False), Column("k"), Column("Protocol", numeric=False)]
    columns += [
        Column("Chosen head", "that with the highest modularity, without labels", numeric=False),
        Column("Modularity", "neighbors (half-whitened) in the same cluster, percent, less what chance would give"),
    ]
    if labelled:
        columns += [
            Column("ACC", "of the chosen head, selected seed"),
            Column("Oracle: best head", "by ACC: chosen with labels, so no result", numeric=False),
            Column("Oracle: ACC", "of the head that labels would choose, selected seed"),
            Column("Lost by the choice", "points of ACC"),
        ]
    table = Table(columns)
    for choice in choices:
        run = group[choice.chosen]
        row = [Cell("+".join(run.backbones)), Cell(run.k_text, value=run.k), Cell(run.protocol)]
        detail = f"of {len(choice.compared)} heads"
        row += [Cell(run.head, detail, look="chosen"), _percent(run, "modularity")]
        if labelled:
            row += _oracle(run, None if choice.best is None else group[choice.best])
        table.rows.append(row)
        table.runs.append(None)
    return table


def _percent(run: ScoredRun, name: str) -> Cell:
    value = run.chosen.scores.get(name)
    return Cell(show(value, name), value=value)


def _oracle(chosen: ScoredRun, best: ScoredRun | None) -> list[Cell]:
    if best is None:
        return [Cell("") for _ in range(4)]
    lost = best.chosen.scores["acc"] - chosen.chosen.scores["acc"] if "acc" in chosen.chosen.scores else None
    return [
        _percent(chosen, "acc"),
        Cell(best.head, look="other"),
        Cell(show(best.chosen.scores["acc"], "acc"), value=best.chosen.scores["acc"], look="other"),
        Cell(show(lost, "acc"), value=lost),
    ]
