"""A clone may lie at any path that Snakemake itself can use."""

import subprocess
import sys
import venv

import pytest

from small_experiment import copy_project, deepclust, environment, snakemake

PLACES = ["with a blank", "Köln", "it's", 'the "best"', "$HOME"]
EXPERIMENT = """
datasets: {digits: {loader: digits}}
backbones: {pixels: {method: pixels}}
heads: {kmeans: {method: kmeans, n_init: 1}}
runs: [{dataset: digits, backbones: [pixels], heads: [kmeans], k: 10}]
seeds: 1
evaluation: {bootstrap: 10}
report: {map_points: 30}
"""
EXPERIMENT_ONLY = ["--cores", "1", "--configfile", "tiny.yaml", "--", "results/experiment.yaml"]


def clone(folder):
    folder.mkdir(parents=True)
    copy_project(folder)
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    return folder


def tool(folder, *words):
    done = deepclust(folder, *words, "--configfile", "tiny.yaml")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("place", PLACES)
def test_another_folder_to_work_in(tmp_path, place):
    """Jobs of which Snakemake makes a process of its own are given the path of the clone."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    snakefile = clone(tmp_path / place) / "Snakefile"
    done = snakemake(folder, "--snakefile", str(snakefile), *EXPERIMENT_ONLY)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "pixels" in (folder / "results" / "experiment.yaml").read_text()


def test_from_images_to_report(tmp_path):
    folder = clone(tmp_path / "Käthe's new photos")
    done = snakemake(folder, "-n")
    assert done.returncode == 0 and "pretrain" in done.stdout, done.stderr[-3000:]  # the default experiment
    assert "report_page" in tool(folder, "plan")
    done = snakemake(folder, "--cores", "1", "--configfile", "tiny.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "results" / "report.html").exists()
    done = snakemake(folder, "--configfile", "tiny.yaml", "--report", "report.zip")
    assert done.returncode == 0 and (folder / "report.zip").exists(), done.stderr[-3000:]
    with (folder / "workflow" / "scripts" / "probe.py").open("a") as script:
        script.write("\nRENAMED = True\n")
    assert "code of probe.py" in tool(folder, "plan")
    assert "accepted the results of 1 jobs" in tool(folder, "accept", "--why", "renamed")
    assert tool(folder, "plan").startswith("0 jobs would run\n")


def test_the_interpreter_may_be_at_such_a_path_as_well(tmp_path):
    """`make` puts it into the clone."""
    folder = clone(tmp_path / "Käthe's clone")
    venv.create(folder / ".venv", symlinks=True)
    packages = next((folder / ".venv" / "lib").glob("python*/site-packages"))
    (packages / "these.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    command = [str(folder / ".venv" / "bin" / "python"), "-m", "snakemake", *EXPERIMENT_ONLY]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment())
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "results" / "experiment.yaml").exists()


@pytest.mark.parametrize("place", ["{braces}", "apostrophe's $HOME", "back\\slash"])
def test_a_path_that_snakemake_spoils_is_refused_in_one_line(tmp_path, place):
    done = snakemake(clone(tmp_path / place), "-n")
    assert done.returncode == 1
    assert "rename the folder" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
