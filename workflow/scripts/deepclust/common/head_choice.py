"""Which of several heads on the same features to believe, without labels; and which a look at the labels would name."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class HeadChoice:
    """The heads of one setting; all are positions in what was compared."""

    compared: list[int]
    chosen: int
    """The one with the highest criterion, the first of equal ones."""
    best: int | None
    """The one with the highest accuracy: an oracle. None without labels."""


def choose_heads(
    settings: Sequence[Hashable], criterion: Sequence[float | None], accuracy: Sequence[float | None]
) -> list[HeadChoice]:
    """The choice in every setting that has several heads whose criterion is known.

    Args:
        settings: what must be equal for heads to be compared (dataset, backbones, k, protocol).
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
            scored = [position for position in compared if accuracy[position] is not None]
            best = max(scored, key=lambda position: accuracy[position] or 0.0, default=None)
            chosen = max(compared, key=lambda position: criterion[position] or 0.0)
            choices.append(HeadChoice(compared, chosen, best))
    return choices
