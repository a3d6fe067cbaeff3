"""The commands of the stage, one after the other, as the workflow calls them."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

from deepclust.core.files import write_array, write_tensors
from deepclust.reporting import page

SCRIPTS = Path(page.__file__).parents[2]


def run(command, *arguments, code=0):
    done = run_command(command, "--threads", "1", *arguments, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def toy(tmp_path, write_metrics, toy_split):
    labels = np.arange(30) % 3
    clusters = labels.copy()
    clusters[:2] = (clusters[:2] + 1) % 3
    files = toy_split("test", labels, clusters)
    generator = np.random.default_rng(0)
    files["features"] = tmp_path / "features.npy"
    write_array(files["features"], (np.eye(3)[labels] + 0.1 * generator.normal(size=(30, 3))).astype(np.float16))
    files["metrics"] = write_metrics()
    return files


def project_map(toy, folder):
    """Make the map; returns its file."""
    path = folder / "map.safetensors"
    words = ("--score", '["test"]', "--map_points", "20", "--provenance", folder / "map.provenance.json")
    run("project_map", "--input.features", toy["features"], "--output.map", path, *words)
    return path


def plot_run(toy, metrics, mapped, figures, *words, **more):
    inputs = {"metrics": metrics, "map": mapped, **{name: toy[name] for name in ("clusters", "images", "labels")}}
    outputs = {name: figures / f"{name}.png" for name in ("confusion", "gallery", "map")}
    files = [(f"--input.{name}", path) for name, path in inputs.items()]
    files += [(f"--output.{name}", path) for name, path in outputs.items()]
    return run("plot_run", *(word for pair in files for word in pair), "--score", '["test"]', *words, **more)


def test_from_a_scored_run_to_the_page(toy, tmp_path, write_log):
    report = tmp_path / "results/report"
    figures = report / "toy/simclr/kmeans/k3-held-out"
    plot_run(toy, toy["metrics"], project_map(toy, report), figures, "--gallery_images", "4")
    drawn = {"training": report / "training.png", "leaderboard": report / "leaderboard.png"}
    logs = [write_log("simclr", 3), write_log("secu", 2)]
    run("plot_experiment", "--figure", "training", "--input.logs", *logs, "--output.figure", drawn["training"])
    words = ("--input.metrics", toy["metrics"], "--output.figure", drawn["leaderboard"])
    run("plot_experiment", "--figure", "leaderboard", *words)
    (tmp_path / "jobs.txt").write_text(f"{report / 'map.provenance.json'}\n")
    (tmp_path / "leaderboard.csv").write_text("dataset\ntoy\n")
    (tmp_path / "experiment.yaml").write_text("backbones: {simclr: {method: simclr}}\n")
    done, record = tmp_path / "results/report.html", tmp_path / "report.provenance.json"
    run(
        *("report_page", "--input.metrics", toy["metrics"]),
        *("--input.figures", *sorted(figures.iterdir()), *drawn.values()),
        *("--input.records", report / "map.provenance.json", "--input.leaderboard", tmp_path / "leaderboard.csv"),
        *("--input.experiment", tmp_path / "experiment.yaml", "--input.job_list", tmp_path / "jobs.txt"),
        *("--output.page", done, "--provenance", record),
    )
    html = done.read_text(encoding="utf-8")
    assert html.count("<img") == 5
    assert "method: simclr" in html
    provenance = json.loads(record.read_text())
    assert provenance["options"] == {"page_runs": 24}
    assert provenance["inputs"]["metrics.0"]["path"] == str(toy["metrics"])


def test_a_figure_that_there_is_not_is_named(tmp_path):
    done = run("plot_experiment", "--figure", "nosuch", "--output.figure", tmp_path / "x.png", code=1)
    assert "nosuch" in done.stderr and done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


def test_figures_of_a_run_whose_every_seed_failed(toy, tmp_path, write_metrics):
    mapped = project_map(toy, tmp_path)
    write_tensors(toy["clusters"], {})
    plot_run(toy, write_metrics(all_failed="collapsed"), mapped, tmp_path)
    figures = [tmp_path / f"{name}.png" for name in ("confusion", "gallery", "map")]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


def test_damaged_metrics_end_in_one_line_and_no_figure(toy, tmp_path):
    mapped = project_map(toy, tmp_path)
    broken = toy["metrics"].read_text().replace('"selected": 1', '"selected": 9')
    toy["metrics"].write_text(broken)
    done = plot_run(toy, toy["metrics"], mapped, tmp_path, code=1)
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))
