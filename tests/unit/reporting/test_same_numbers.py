"""A score has the same digits in the terminal, the tables and the figures."""

import json
import re

from deepclust.core.files import write_json, write_text
from deepclust.evaluation.leaderboard import leaderboard, to_csv
from deepclust.planning.terminal import closing_table
from deepclust.reporting.figures.confusion import run_overview
from deepclust.reporting.figures.leaderboard import leaderboard_figure
from deepclust.reporting.runs import read_run
from deepclust.reporting.tables import gains, leaderboard_table

MEAN = (0.36125 + 0.36375) / 2  # 0.36250000000000004, of which a table with ten digits says 0.3625
PIXELS = 0.3


def texts(figure):
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def with_accuracy(path, mean):
    content = json.loads(path.read_text())
    content["summary"] |= dict.fromkeys(("ami", "purity"), content["summary"]["nmi"])
    content["summary"]["acc"]["mean"] = content["seeds"][0]["acc"] = mean
    write_json(path, content)
    return path


def test_a_half_is_rounded_in_the_same_way_everywhere(write_metrics, tmp_path):
    files = [with_accuracy(write_metrics(), MEAN), with_accuracy(write_metrics(backbones=("raw",)), PIXELS)]
    runs = [read_run(path) for path in files]
    write_text(tmp_path / "leaderboard.csv", to_csv(leaderboard(files)))
    terminal = closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", ["raw"])
    gained = gains(runs, ["raw"])
    table = [cell.text for row in leaderboard_table(runs, gained).rows for cell in row]
    figures = texts(leaderboard_figure(runs, [])) + texts(run_overview(runs[0]))

    for shown in (terminal, " ".join(table), " ".join(figures)):
        assert "36.3" in shown
        assert "36.2" not in shown
    assert re.findall(r"\+\d+\.\d", terminal) == re.findall(r"\+\d+\.\d", " ".join(table)) == ["+6.3"]
    assert [gain.text for gain in gained.values()] == ["+6.3"]
