"""Names in many scripts and of many characters are whole, and inside of every figure."""

import re
import warnings

import numpy as np
import pytest

from deepclust.reporting import fonts
from deepclust.reporting.figures.confusion import run_overview
from deepclust.reporting.figures.gallery import gallery
from deepclust.reporting.figures.layers import layer_figure
from deepclust.reporting.figures.leaderboard import leaderboard_figure
from deepclust.reporting.figures.map import map_figure
from deepclust.reporting.figures.snapshots import snapshots_figure
from deepclust.reporting.figures.training import training_figure
from deepclust.reporting.fonts import text_width
from deepclust.reporting.runs import read_run
from deepclust.reporting.scored import Scored
from deepclust.reporting.style import DPI, LONGEST_NAME, printable

SCRIPTS = ["猫 🐱", "고양이", "ネコ", "貓", "кошка", "γάτα", "קטה", "قطة", "बिल्ली", "แมว", "ድመት", "კატა"]
LONG = ["Northern short-tailed shrew of the eastern lowlands, juvenile", "W" * 60, "漢" * 60, "x" * 120, "cat"]
NETWORKS = [f"vit_small_patch14_reg4_dinov2.lvd142m-pool-class-avg-{n}" for n in range(10, 13)]


def shown(figure):
    """Everything that is written; what is outside of the figure, or would be a box, is an error."""
    figure.set_dpi(DPI)
    with warnings.catch_warnings(action="error"):
        figure.draw_without_rendering()
    texts = [text for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]
    texts = [text for text in texts if text.get_visible() and (text.axes is None or text.axes.get_visible())]
    width, height = figure.bbox.size
    for text in texts:
        if re.fullmatch(r"−?[\d.]+", text.get_text()):  # ticks beyond the ends of an axis are not drawn
            continue
        box = text.get_window_extent()
        assert box.x0 >= -1 and box.x1 <= width + 1 and box.y0 >= -1 and box.y1 <= height + 1, text
    return {text.get_text() for text in texts}


def drawn(run, errors=2):
    """The figures of a run with six images of each class, of which some are in the next cluster."""
    classes = len(run.classes)
    labels = np.arange(run.images) % classes
    clusters = labels.copy()
    clusters[:errors] = (clusters[:errors] + 1) % classes
    places = np.random.default_rng(0).normal(size=(run.images, 2)).astype(np.float32)
    scored = Scored([Squares()], clusters, labels)
    return run_overview(run), gallery(run, scored, 3, 20), map_figure(run, scored, np.arange(run.images), places)


class Squares:
    def __len__(self):
        return 10_000

    def decode(self, index):
        return np.full((1, 4, 4), index % 250, np.uint8)


@pytest.mark.parametrize("classes", [SCRIPTS, LONG, LONG[:2], [f"{n} {'w' * 56}"[:60] for n in range(28)]])
def test_names_of_classes(write_metrics, classes):
    run = read_run(write_metrics(k=len(classes), classes=classes, images=6 * len(classes)))
    confusion, images, places = (" ".join(shown(figure)) for figure in drawn(run))
    for name in classes:
        part = name if len(name) <= LONGEST_NAME else name[:29]
        assert part in confusion
        assert part in places
    assert sum(name[:29] in images for name in classes) >= min(20, len(classes))  # of more, some are shown


def test_names_of_networks_and_datasets(write_metrics):
    runs = [read_run(write_metrics(backbones=(name,), head="h" * 60)) for name in NETWORKS]
    runs.append(read_run(write_metrics(dataset="D" * 60, backbones=tuple(NETWORKS))))
    log = [{"epoch": epoch, "loss": 1 / epoch, "feature_std": 0.1} for epoch in range(1, 4)]
    scores = [{"epoch": 1, "knn_acc": 0.5, "kmeans": {"acc": 0.5, "nmi": 0.4, "ari": 0.3}}]
    figures = [
        leaderboard_figure(runs, []),
        training_figure(dict.fromkeys(NETWORKS, log)),
        snapshots_figure(dict.fromkeys(NETWORKS, scores)),
        layer_figure({f"{name} on {dataset}": {0: 0.5} for name in NETWORKS for dataset in ("toy", "D" * 60)}),
    ]
    for figure in figures:
        written = " ".join(shown(figure))
        assert all(name in written for name in NETWORKS)


@pytest.mark.parametrize(("name", "text"), [("a\U000e0001b", "ab"), ("\U000f0000", "U+F0000"), ("\udcff", "U+DCFF")])
def test_a_character_that_no_font_has_is_told_by_its_number(name, text):
    assert printable(name) == text


def test_wide_characters_take_more_room():
    assert 0.9 < text_width("猫" * 60) / (60 * 8 / 72) < 1.1
    assert text_width("i" * 60) < text_width("W" * 60) < text_width("W" * 60, weight="bold")


def test_without_packages_of_fonts_characters_are_told_by_number(monkeypatch):
    caches = fonts.families, fonts._characters
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setattr(fonts, "_PACKAGES", ("no_such_package",))
    try:
        assert fonts.families() == ("DejaVu Sans",)
        assert printable("猫 cat") == "U+732B cat"
    finally:
        for cached in caches:
            cached.cache_clear()
