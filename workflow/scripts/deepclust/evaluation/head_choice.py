"""Which of several heads on the same features to believe, without labels; and which a look at the labels would name."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class HeadChoice:
    """The heads of one setting; all are positions in what was compared."""

    compared: list[int]
    chosen: int
    """The one with the highest criterion; of equal ones, the first by name."""
    best: int | None
    """The one with the highest accuracy, of equal ones the first by name: an oracle. None without labels."""


def choose_heads(
    settings: Sequence[Hashable],
    names: Sequence[str],
    criterion: Sequence[float | None],
    accuracy: Sequence[float | None],
) -> list[HeadChoice]:
    """The choice in every setting that has several heads whose criterion is known.

    The order of the runs has no say in it: tables rank them by accuracy, and labels must not decide between equal ones.

    Args:
        settings: what must be equal for heads to be compared (dataset, backbones, k, protocol).
        names: of the heads, one for each run.
        criterion: of each run, the higher, the better; from no labels.
        accuracy: of each run; None without labels.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, (setting, value) in enumerate(zip(settings, criterion)):
        if value is not None:
            groups.setdefault(setting, []).append(position)
    choices = []
    for compared in groups.values():
        if len(compared) > 1:
            by_name = sorted(compared, key=lambda position: names[position])
            scored = [position for position in by_name if accuracy[position] is not None]
            best = max(scored, key=lambda position: accuracy[position] or 0.0, default=None)
            chosen = max(by_name, key=lambda position: criterion[position] or 0.0)
            choices.append(HeadChoice(compared, chosen, best))
    return choices
