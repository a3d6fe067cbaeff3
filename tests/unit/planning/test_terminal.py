import io
import json
import logging
import re
import time

import pytest

from deepclust.core.progress import Progress
from deepclust.planning.terminal import Watcher, closing_table, describe, duration, log_notes, running_jobs


def progress(folder, log, **state):
    path = folder / f"{log}.log.progress"
    path.parent.mkdir(parents=True, exist_ok=True)
    now = {
        "name": log,
        "time": time.time(),
        "what": "epoch 1/2",
        "done": 5,
        "total": 10,
        "unit": "images",
        "rate": 20.0,
    }
    path.write_text(json.dumps({**now, "eta": 61.0, **state}))
    return path


class Terminal(io.StringIO):
    """A terminal that understands the two sequences that the painter uses."""

    def isatty(self):
        return True

    def lines(self):
        shown, row = [""], 0
        for piece in re.findall(r"\x1b\[1A|\x1b\[2K|\n|[^\x1b\n]+", self.getvalue()):
            if piece == "\x1b[1A":
                row -= 1
            elif piece == "\x1b[2K":
                shown[row] = ""
            elif piece == "\n":
                row += 1
                shown += [""] * (row == len(shown))
            else:
                shown[row] += piece
        return [line for line in shown if line]


def test_a_line_says_what_how_far_how_fast_and_how_long(tmp_path):
    progress(tmp_path, "pretrain/simclr")
    (job,) = running_jobs(tmp_path, 0)
    line = describe(job)
    for part in ("pretrain/simclr", "epoch 1/2", "50 %", "20 images/s", "1:01 left"):
        assert part in line


def test_jobs_of_earlier_runs_and_failed_ones_are_not_running(tmp_path):
    progress(tmp_path, "old", time=time.time() - 1000)
    progress(tmp_path, "failed", error="no")
    (tmp_path / "half.log.progress").write_text('{"name": ')
    progress(tmp_path, "b")
    progress(tmp_path, "a")
    assert [job["name"] for job in running_jobs(tmp_path, time.time() - 500)] == ["a", "b"]


def test_parallel_jobs_and_messages_do_not_garble_each_other(tmp_path):
    terminal = Terminal()
    watcher = Watcher(tmp_path, terminal)
    handler = logging.StreamHandler(terminal)
    watcher._clear_before(handler)
    progress(tmp_path, "one", done=1)
    progress(tmp_path, "two", done=2)
    watcher.show(running_jobs(tmp_path, 0))
    handler.emit(logging.makeLogRecord({"msg": "Finished job 3."}))
    progress(tmp_path, "one", done=9)
    watcher.show(running_jobs(tmp_path, 0))
    (tmp_path / "two.log.progress").unlink()
    watcher.show(running_jobs(tmp_path, 0))
    lines = terminal.lines()
    assert lines[0] == "Finished job 3."
    assert len(lines) == 2 and lines[1].startswith("one") and "90 %" in lines[1]


def test_no_more_lines_are_painted_than_the_terminal_has(tmp_path, monkeypatch):
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("COLUMNS", "80")
    terminal = Terminal()
    watcher = Watcher(tmp_path, terminal)
    for number in range(9):
        progress(tmp_path, f"job{number}")
    for _ in range(2):
        watcher.show(running_jobs(tmp_path, 0))
    lines = terminal.lines()
    assert len(lines) == 4 and lines[0].startswith("job0") and "6 more" in lines[-1]


def test_without_a_terminal_there_is_a_plain_line_now_and_then(tmp_path):
    stream = io.StringIO()
    watcher = Watcher(tmp_path, stream)
    watcher._started -= 60
    for done in range(5):
        progress(tmp_path, "one", done=done)
        watcher.show(running_jobs(tmp_path, 0))
    assert stream.getvalue().count("\n") == 1 and "\x1b" not in stream.getvalue()


def test_errors_of_this_run_are_told_once(tmp_path):
    progress(tmp_path, "old", error="long ago", time=time.time() - 1000)
    progress(tmp_path, "prepare/digits", name="prepare", error="no images: add some")
    lines = log_notes(tmp_path, time.time() - 500)
    assert len(lines) == 1
    assert "error in prepare: no images: add some" in lines[0] and "prepare/digits.log" in lines[0]
    assert log_notes(tmp_path, time.time() - 500) == []


def test_warnings_of_this_run_are_told_once_and_stay_in_the_log(tmp_path, capsys):
    job = Progress(tmp_path / "prepare" / "digits.log.progress", "prepare")
    with job.task("prepare", 10, "images"):
        job.warn("half of it is blue")
        job.warn("and small")
    assert log_notes(tmp_path) == []  # it still runs
    job.clear()
    assert running_jobs(tmp_path, 0.0) == []
    log = tmp_path / "prepare" / "digits.log"
    expected = [f"warning in prepare: {text} (log: {log})" for text in ("half of it is blue", "and small")]
    assert log_notes(tmp_path, time.time() - 500) == expected
    assert log_notes(tmp_path) == []
    assert capsys.readouterr().err.splitlines() == ["warning: half of it is blue", "warning: and small"]


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


TABLE = """dataset,backbone,head,k,k_by,protocol,split,seeds,acc_mean,acc_std,nmi_mean,nmi_std,ari_mean,ari_std,versions
d,net,kmeans,10,experiment,held-out,test,2,0.9,0.01,0.8,,0.7,,torch=1
d,raw,kmeans,10,experiment,held-out,test,1,0.75,0.02,0.6,,0.5,,torch=2
"""


def test_closing_table(tmp_path):
    (tmp_path / "leaderboard.csv").write_text(TABLE)
    (tmp_path / "report.html").touch()
    text = closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", ["raw"])
    assert "90.0 ± 1.0" in text and "+15.0" in text and "report.html" in text
    assert "different package versions" in text
    assert "+" not in closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", []).replace("± ", "")


def test_the_closing_table_tells_what_was_skipped(tmp_path):
    header, *rows = TABLE.splitlines()
    lines = [f"{header},images,skipped", *(f"{row},6,30" for row in rows), f"{rows[0]},6,0".replace("d,", "e,", 1)]
    (tmp_path / "leaderboard.csv").write_text("\n".join(lines))
    text = closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", [])
    assert text.count("skipped") == 1 and "d (test): 6 images, 30 skipped" in text


def test_gains_in_the_closing_table_are_over_the_best_raw_pixels(tmp_path):
    worse = "d,small,kmeans,10,experiment,held-out,test,1,0.5,,0.6,,0.5,,torch=2\n"
    header, *rows = TABLE.splitlines(keepends=True)
    for lines in ([*rows, worse], [worse, *reversed(rows)]):
        (tmp_path / "leaderboard.csv").write_text(header + "".join(lines))
        text = closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", ["raw", "small"])
        assert re.findall(r"[+-]\d+\.\d", text) == ["+15.0"]


def test_closing_table_with_a_run_whose_every_seed_failed(tmp_path):
    (tmp_path / "leaderboard.csv").write_text(f"{TABLE}d,net,temi,10,experiment,held-out,test,0,,,,,,,torch=2\n")
    text = closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", ["raw"])
    (line,) = [line for line in text.splitlines() if "temi" in line]
    assert line.split()[-3:] == ["failed", "–", "–"]


def test_closing_table_without_labels(tmp_path):
    (tmp_path / "leaderboard.csv").write_text(
        "dataset,backbone,head,k,k_by,protocol,split,seeds,acc_mean,silhouette_mean,silhouette_std,versions\n"
        "d,net,kmeans,3,auto,merged,train,2,,0.25,0.01,a\n"
    )
    text = closing_table(tmp_path / "leaderboard.csv", tmp_path / "report.html", [])
    assert "0.250 ± 0.010" in text and "ACC" not in text and "3 (auto)" in text
