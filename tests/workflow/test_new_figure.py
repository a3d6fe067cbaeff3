"""A figure is one file: put into a clone, it is planned, drawn, shown and explained, with nothing else changed."""

import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from small_experiment import DryRuns, copy_project, name, snakemake

EXPERIMENT = """
datasets: {digits: {loader: digits}}
backbones: {pixels: {method: pixels}}
heads: {kmeans: {method: kmeans, n_init: 1}}
runs: [{dataset: digits, backbones: [pixels], heads: [kmeans], k: 3}]
seeds: 1
evaluation: {bootstrap: 20}
report: {map_points: 50}
"""
FIGURE = '''"""%(title)s."""

from matplotlib.figure import Figure

from deepclust.core.figures import FigureFacts
from deepclust.core.options import Options as BaseOptions
from deepclust.reporting.style import new_figure

FACTS = FigureFacts(
    title="%(title)s",
    scope="%(scope)s",
    reads=("%(reads)s",),
    explanation="Shows ``%(reads)s`` as a & b.",
    reading="Look at %(title)s closely.",
)


class Options(BaseOptions):
    """No options."""


def draw(of: object, options: Options) -> Figure:
    """Draw it."""
    %(draw)s
    figure = new_figure(2, 1)
    figure.text(0.1, 0.5, "%(title)s")
    return figure
'''
NEW = {
    "sizes": {
        "title": "Sizes of a run",
        "scope": "run",
        "reads": "clusters",
        "draw": "assert len(of.scored.assignments) == of.run.images",
    },
    "ceilings": {"title": "Its ceilings", "scope": "setting", "reads": "probe", "draw": "assert of.probe.exists()"},
    "everything": {
        "title": "All there is",
        "scope": "experiment",
        "reads": "metrics",
        "draw": "assert len(of.metrics) == 1",
    },
}
DRAWN = {
    "sizes": "results/report/digits/pixels/kmeans/k3-held-out/sizes.png",
    "ceilings": "results/report/digits/pixels/held-out/ceilings.png",
    "everything": "results/report/everything.png",
}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A clone with three more files."""
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    (folder / "small.yaml").write_text(EXPERIMENT)
    for file, words in NEW.items():
        (folder / "workflow/scripts/deepclust/reporting/figures" / f"{file}.py").write_text(FIGURE % words)
    return folder


def test_new_figures_are_planned(clone):
    runs = DryRuns(clone)
    jobs = runs(forceall=True)
    runs.close()
    written = {path for job in jobs for path in job["output"]}
    assert set(DRAWN.values()) <= written
    (page,) = (job for job in jobs if job["rule"] == "report_page")
    assert set(DRAWN.values()) <= set(page["input"])
    assert {"plot_setting digits pixels held-out ceilings", "plot_experiment everything"} <= set(map(name, jobs))
    labels = {job["rule"] for job in jobs if any(path.startswith("results/labels/") for path in job["input"])}
    assert labels == {"probe", "evaluate", "plot_run"}


def test_new_figures_are_drawn_shown_and_explained(clone):
    done = snakemake(clone, "--cores", "1", "--configfile", "small.yaml", "--quiet", "all")
    assert done.returncode == 0, done.stderr[-3000:]
    for path in DRAWN.values():
        with Image.open(clone / path) as image:
            assert np.asarray(image.convert("L")).std() > 0

    html = (clone / "results/report.html").read_text(encoding="utf-8")
    assert html.count("<img") == 3 + 1 + len(NEW), "those of a run, the leaderboard, the new ones"
    for words in NEW.values():
        assert words["title"] in html
        assert f"Shows <code>{words['reads']}</code> as a &amp; b." in html

    done = snakemake(clone, "--configfile", "small.yaml", "--report", "report.zip")
    assert done.returncode == 0, done.stderr[-3000:]
    with zipfile.ZipFile(clone / "report.zip") as archive:
        (report,) = (entry for entry in archive.namelist() if re.fullmatch(r"[^/]+/report\.html", entry))
        text = archive.read(report).decode()
    for words in NEW.values():
        assert f"Look at {words['title']} closely." in text


def test_a_figure_that_reads_what_there_is_not_ends_planning_with_one_line(clone):
    path = clone / "workflow/scripts/deepclust/reporting/figures/wrong.py"
    path.write_text(FIGURE % {**NEW["ceilings"], "reads": "nosuch"})
    try:
        done = snakemake(clone, "-n", "--configfile", "small.yaml")
    finally:
        path.unlink()
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if "wrong.py" in line]
    assert len(lines) == 1 and "nosuch" in lines[0] and "probe" in lines[0] and "Traceback" not in done.stderr
