"""The figure shows every score that a snapshot has, over epochs."""

import numpy as np

from deepclust.reporting.figures.snapshots import snapshots_figure

SECU = [
    {"epoch": epoch, "knn_acc": 0.1 * epoch, "linear_acc": None, "kmeans": scores, "native": scores}
    for epoch, scores in [(0, {"acc": 0.1, "nmi": 0.2, "ari": 0.3}), (2, {"acc": 0.4, "nmi": 0.5, "ari": 0.6})]
]
SIMCLR = [{"epoch": 1, "knn_acc": 0.5, "linear_acc": 0.6, "kmeans": {"acc": 0.7, "nmi": 0.8, "ari": 0.9}}]


def drawn(figure):
    """Title of each panel → the points of its lines that have any."""
    lines = {axes.get_title("left"): [line.get_xydata() for line in axes.lines] for axes in figure.axes}
    return {title: [points for points in found if len(points)] for title, found in lines.items()}


def test_scores_are_drawn_in_percent():
    panels = drawn(snapshots_figure({"secu": SECU, "simclr": SIMCLR}))
    assert [len(lines) for lines in panels.values()] == [3, 3, 3, 3]
    np.testing.assert_allclose(panels["ACC"][0], [[0, 10], [2, 40]])
    np.testing.assert_allclose(panels["k-NN"][0], [[0, 0], [2, 20]])
    np.testing.assert_allclose(panels["k-NN"][2], [[1, 60]])
    np.testing.assert_allclose(panels["ARI"][2], [[1, 90]])


def test_without_labels_the_panels_say_so():
    figure = snapshots_figure({"simclr": [{"epoch": 1, "knn_acc": None, "linear_acc": None}]})
    assert all("no labels" in [text.get_text() for text in axes.texts] for axes in figure.axes)
