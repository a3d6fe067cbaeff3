"""Choice among several heads on the same features without labels, beside the choice that labels would make."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class HeadChoice:
    """The heads of one setting, each as its position among the compared runs."""

    compared: list[int]
    chosen: int
    """The one with the highest criterion; among equal ones, the first by name."""
    best: int | None
    """The one with the highest accuracy, among equal ones the first by name: an oracle. None without labels."""


def choose_heads(
    settings: Sequence[Hashable],
    names: Sequence[str],
    criterion: Sequence[float | None],
    accuracy: Sequence[float | None],
) -> list[HeadChoice]:
    """Choose a head in every setting that has several heads with a known criterion.

    The order of the runs does not matter: tables rank them by accuracy, and labels must not decide between equal ones.

    Args:
        settings: dataset, backbones, k and protocol of each run: heads are compared if these are equal.
        names: the name of each run's head.
        criterion: a number for each run, found without labels; higher is better.
        accuracy: the accuracy of each run; None without labels.
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
