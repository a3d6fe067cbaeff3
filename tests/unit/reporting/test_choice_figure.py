import numpy as np
import pytest

from deepclust.reporting.choice import ChoiceOfK
from deepclust.reporting.figures.choice_of_k import choice_figure
from deepclust.reporting.style import save_figure


@pytest.fixture
def choice():
    numbers = list(range(2, 12))
    criteria = {
        name: [-abs(number - best) / 10 for number in numbers]
        for name, best in (("silhouette", 3), ("stability", 2), ("modularity", 7), ("eigengap", 11))
    }
    return ChoiceOfK(5, "why", numbers, criteria | {"mean_rank": [abs(n - 5) + 1.0 for n in numbers]}, 1234)


def test_every_criterion_is_drawn_against_k(choice):
    figure = choice_figure(choice)
    for axes, (name, values) in zip(figure.axes, choice.criteria.items()):
        assert axes.get_title(loc="left").lower().replace(" ", "_") == name
        chosen, curve, _ = axes.lines
        assert set(chosen.get_xdata()) == {5}
        np.testing.assert_array_equal(curve.get_xdata(), choice.numbers)
        np.testing.assert_array_equal(curve.get_ydata(), values)
    own_numbers = [int(axes.lines[2].get_xdata()[0]) for axes in figure.axes[:5]]
    assert own_numbers == [3, 2, 7, 11, 5]


def test_the_file_is_the_same_every_time(choice, tmp_path):
    for name in ("one", "two"):
        save_figure(choice_figure(choice), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
