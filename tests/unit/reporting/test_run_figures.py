import tracemalloc

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from PIL import Image

from deepclust.core.errors import DeepclustError
from deepclust.reporting.failure import failure_figure
from deepclust.reporting.figures.confusion import run_overview
from deepclust.reporting.figures.gallery import gallery
from deepclust.reporting.figures.map import map_figure
from deepclust.reporting.runs import read_run
from deepclust.reporting.scored import Scored, read_scored
from deepclust.reporting.style import category_style, printable, save_figure

OUTLINE = (213, 94, 0)


def texts(figure):
    """Everything that is written in a figure."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")) if text.get_text()]


def pixels(figure, path):
    save_figure(figure, path)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def has_color(image, color):
    return bool((image == np.asarray(color)).all(axis=2).any())


@pytest.fixture
def scored(toy_split):
    def make(labels, clusters):
        files = toy_split("test", np.asarray(labels), np.asarray(clusters))
        return read_scored(files["clusters"], 1, ["test"], [files["images"]], [files["labels"]])

    return make


def labels_and_clusters(errors, images=30):
    labels = np.arange(images) % 3
    clusters = labels.copy()
    clusters[:errors] = (clusters[:errors] + 1) % 3
    return labels, clusters


# --- scored images ----------------------------------------------------------------------------------------------------


def test_splits_follow_each_other(toy_split):
    first = toy_split("train", np.array([0, 1]), np.array([1, 1]))
    from safetensors.numpy import load_file, save_file

    second = toy_split("test", np.array([2]), np.array([0]))
    save_file({**load_file(first["clusters"]), **load_file(second["clusters"])}, first["clusters"])
    both = read_scored(
        first["clusters"],
        1,
        ["train", "test"],
        [first["images"], second["images"]],
        [first["labels"], second["labels"]],
    )
    assert both.assignments.tolist() == [1, 1, 0]
    assert both.labels.tolist() == [0, 1, 2]
    assert [int(both.decode(index)[0, 0, 0]) for index in range(3)] == [20, 60, 100]
    with pytest.raises(IndexError):
        both.decode(3)


def test_files_of_different_splits_are_refused(toy_split):
    files = toy_split("test", np.array([0, 1]), np.array([0, 1, 1]))
    with pytest.raises(DeepclustError, match="'assignments': 3"):
        read_scored(files["clusters"], 1, ["test"], [files["images"]], [files["labels"]])


def test_a_missing_seed_is_named(toy_split):
    files = toy_split("test", np.array([0]), np.array([0]))
    with pytest.raises(DeepclustError, match="seed7/assignments/test"):
        read_scored(files["clusters"], 7, ["test"], [files["images"]], [files["labels"]])


# --- confusion matrix -------------------------------------------------------------------------------------------------


def test_the_confusion_matrix_shows_percentages_of_each_class(write_metrics):
    written = texts(run_overview(read_run(write_metrics(errors=3))))
    assert {"90", "10"} <= set(written)
    assert {"cat", "dog & <b>wolf</b>", "$x_1$"} <= set(written)


def test_a_large_confusion_matrix_keeps_single_cells_visible(write_metrics, tmp_path):
    names = [f"class {index}" for index in range(600)]
    run = read_run(write_metrics(k=600, classes=names, images=1200, errors=0))
    figure = run_overview(run)
    drawn = figure.axes[0].images[0].get_array()
    assert max(drawn.shape) <= 250
    assert np.allclose(np.diag(drawn), 100)
    assert pixels(figure, tmp_path / "large.png").std() > 1


def test_ten_thousand_classes_are_drawn_without_a_matrix_of_all_cells(write_metrics, toy_split):
    names = [f"class {index}" for index in range(10_000)]
    path = write_metrics(k=10_000, classes=names, images=20_000, errors=0)
    assert path.stat().st_size < 5e6
    tracemalloc.start()
    figure = run_overview(read_run(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert np.allclose(np.diag(figure.axes[0].images[0].get_array()), 100)
    assert peak < 100e6  # bytes; one matrix of all cells has 8e8


def test_more_clusters_than_classes_are_said_to_have_no_class(write_metrics):
    written = texts(run_overview(read_run(write_metrics(k=5))))
    assert any("the last 2 have none" in text for text in written)


def test_without_labels_the_sizes_are_shown(write_metrics):
    run = read_run(write_metrics(labelled=False, errors=5))
    figure = run_overview(run)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == sorted(run.chosen.sizes, reverse=True)


# --- no clusters ------------------------------------------------------------------------------------------------------


def test_a_run_without_clusters_has_a_figure_that_says_why(write_metrics):
    reason = "only 1 of 3 clusters have images: " + "lower k, or raise entropy_weight " * 8
    written = texts(failure_figure(read_run(write_metrics(all_failed=reason))))
    assert " ".join(" ".join(written).split()).endswith(" ".join(f"every seed failed seed 1: {reason}".split()))


# --- gallery ----------------------------------------------------------------------------------------------------------


def test_errors_are_outlined_and_only_errors(write_metrics, scored, tmp_path):
    for errors in (0, 6):
        run = read_run(write_metrics(errors=errors))
        image = pixels(gallery(run, scored(*labels_and_clusters(errors)), 10, 5), tmp_path / "gallery.png")
        assert has_color(image, OUTLINE) is bool(errors)


def test_the_gallery_shows_the_clusters_own_images(write_metrics, scored, tmp_path):
    labels, clusters = labels_and_clusters(0)
    run = read_run(write_metrics(errors=0))
    image = pixels(gallery(run, scored(labels, clusters), 4, 5), tmp_path / "gallery.png")
    # Every class has a colour, and the clusters are in the order of the classes.
    tops = [np.flatnonzero((image == (label * 40 + 20, 0, 0)).all(axis=2).any(axis=1)) for label in range(3)]
    assert tops[0].max() < tops[1].min() < tops[1].max() < tops[2].min()


def test_images_without_a_label_are_never_errors(write_metrics, scored, tmp_path):
    labels, clusters = labels_and_clusters(6)
    labels[:6] = -1
    image = pixels(gallery(read_run(write_metrics(errors=6)), scored(labels, clusters), 10, 5), tmp_path / "g.png")
    assert has_color(image, (250, 0, 0))
    assert not has_color(image, OUTLINE)


def test_of_many_clusters_some_are_shown_and_it_is_said(write_metrics, scored):
    clusters = np.arange(40) % 8
    run = read_run(write_metrics(k=8, images=40, labelled=False, errors=0))
    figure = gallery(run, scored(np.full(40, -1), clusters), 3, 4)
    written = texts(figure)
    assert any("4 of 8 clusters" in text for text in written)
    assert sum(text.startswith("cluster ") for text in written) == 4


def test_the_gallery_is_the_same_every_time(write_metrics, scored, tmp_path):
    run, images = read_run(write_metrics()), scored(*labels_and_clusters(2))
    save_figure(gallery(run, images, 3, 5), tmp_path / "a.png")
    save_figure(gallery(run, images, 3, 5), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_an_empty_cluster_has_an_empty_row(write_metrics, scored):
    run = read_run(write_metrics(k=4, errors=0))
    written = texts(gallery(run, scored(*labels_and_clusters(0)), 3, 5))
    assert any("0 images" in text for text in written)


# --- map --------------------------------------------------------------------------------------------------------------


def offsets(axes):
    return sum(len(item.get_offsets()) for item in axes.findobj(PathCollection))


def test_the_map_has_every_point_by_cluster_and_by_class(write_metrics, scored):
    ids = np.arange(0, 30, 2)
    xy = np.random.default_rng(0).normal(size=(15, 2)).astype(np.float32)
    left, right = map_figure(read_run(write_metrics(errors=0)), scored(*labels_and_clusters(0)), ids, xy).axes
    assert offsets(left) == offsets(right) == 15


def test_errors_have_a_ring_on_the_map(write_metrics, scored):
    ids, xy = np.arange(30), np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    left, right = map_figure(read_run(write_metrics(errors=4)), scored(*labels_and_clusters(4)), ids, xy).axes
    assert offsets(right) - offsets(left) == 4


def test_without_labels_the_map_shows_clusters_alone(write_metrics, scored):
    _, clusters = labels_and_clusters(0)
    figure = map_figure(
        read_run(write_metrics(labelled=False)), scored(np.full(30, -1), clusters), np.arange(30), np.ones((30, 2))
    )
    assert len(figure.axes) == 1
    assert {"cluster 0", "cluster 1", "cluster 2"} <= set(texts(figure))


def test_a_map_of_other_images_is_refused(write_metrics, scored):
    with pytest.raises(DeepclustError, match="other images"):
        map_figure(read_run(write_metrics()), scored(*labels_and_clusters(0)), np.array([99]), np.ones((1, 2)))


# --- style ------------------------------------------------------------------------------------------------------------


def test_a_hundred_categories_look_different():
    assert len({category_style(index) for index in range(100)}) == 100


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [("cat", 10, "cat"), ("a\nb\t c\x00", 10, "a b c"), ("abcdefghij", 5, "ab…ij"), ("abcdefghij", 0, "abcdefghij")],
)
def test_names_are_printable_and_short(name, width, shown):
    assert printable(name, width) == shown


def test_scored_knows_whether_there_are_labels():
    nothing = np.zeros(2, np.int64)
    assert not Scored([], nothing, nothing - 1).labelled
    assert Scored([], nothing, np.array([-1, 3])).labelled
