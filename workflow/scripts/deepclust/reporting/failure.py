"""The figure of a run that has no clusters to show."""

import textwrap

from matplotlib.figure import Figure

from deepclust.reporting.runs import ScoredRun
from deepclust.reporting.style import ERROR, INK, new_figure, printable

_WIDTH = 80  # characters


def failure_figure(run: ScoredRun) -> Figure:
    """Draw the message that every seed failed, and why the first did."""
    lines = textwrap.wrap(printable(run.failure), _WIDTH)
    height = 0.75 + 0.18 * len(lines)
    figure = new_figure(6.0, height, layout=None)
    left, top = 0.2 / 6.0, 1 - 0.2 / height
    figure.text(left, top, "No clusters: every seed failed", va="top", color=ERROR, fontsize=9, fontweight="bold")
    reason = "\n".join([f"seed {run.seeds[0].seed}:", *lines])
    figure.text(left, top - 0.22 / height, reason, va="top", color=INK, fontsize=8)
    return figure
