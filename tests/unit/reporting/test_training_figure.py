import numpy as np
import pytest

from deepclust.core.errors import DeepclustError
from deepclust.reporting.figures.training import read_log, training_figure


def test_a_log_is_read_by_epoch_and_the_last_word_counts(tmp_path):
    path = tmp_path / "training.jsonl"
    path.write_text('{"epoch": 2, "loss": 3.0}\n{"epoch": 1, "loss": 4.0}\n\n{"epoch": 2, "loss": 2.5}\n')
    assert read_log(path) == [{"epoch": 1, "loss": 4.0}, {"epoch": 2, "loss": 2.5}]


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"loss": 1}', '{"epoch": "x"}'])
def test_a_line_that_is_no_epoch_is_named(tmp_path, line):
    path = tmp_path / "training.jsonl"
    path.write_text(f'{{"epoch": 1}}\n{line}\n')
    with pytest.raises(DeepclustError, match="line 2"):
        read_log(path)


def test_every_backbone_has_a_curve_in_every_panel(write_log):
    logs = {name: read_log(write_log(name, epochs)) for name, epochs in (("simclr", 5), ("secu", 1))}
    figure = training_figure(logs)
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["simclr", "secu"]
    loss = figure.axes[0].lines[0]
    assert np.array_equal(loss.get_xdata(), [1, 2, 3, 4, 5])
    assert np.allclose(loss.get_ydata(), [5, 2.5, 5 / 3, 1.25, 1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["simclr", "secu"]


def test_what_was_not_recorded_is_said():
    figure = training_figure({"x": [{"epoch": 1, "loss": 1.0, "learning_rate": None}]})
    notes = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert ["not recorded" in panel for panel in notes] == [False, True, True, True]


def test_everything_that_a_method_logs_has_a_panel():
    logs = {"a": [{"epoch": 1, "loss": 1.0, "cluster_entropy": 0.9}], "b": [{"epoch": 1, "loss": 2.0, "odd_loss": 0.5}]}
    panels = {axes.get_title("left"): axes for axes in training_figure(logs).axes if axes.get_visible()}
    assert list(panels) == [
        "Loss",
        "Learning rate",
        "Throughput",
        "Feature spread",
        "Cluster entropy",
        "Odd loss",
    ]
    assert [list(line.get_ydata()) for line in panels["Odd loss"].lines] == [[], [0.5]]
    assert [list(line.get_ydata()) for line in panels["Cluster entropy"].lines] == [[0.9], []]
