"""The commands of the stage, one after the other, as the workflow calls them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepclust.core.files import write_array, write_tensors
from deepclust.reporting import page

ROOM = Path(page.__file__).parent
SCRIPTS = ROOM.parents[1]


def run(command, *arguments, code=0):
    words = [sys.executable, SCRIPTS / f"{command}.py", "--threads", "1", *arguments]
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    )
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


def test_from_a_scored_run_to_the_page(toy, tmp_path, write_log):
    report = tmp_path / "results/report"
    figures = report / "toy/simclr/kmeans/k3-held-out"
    project = ("--input.features", toy["features"], "--score", '["test"]', "--map_points", "20")
    run(
        "project_map",
        *project,
        "--output.map",
        report / "map.safetensors",
        "--provenance",
        report / "map.provenance.json",
    )
    run(
        *("plot_run", "--input.metrics", toy["metrics"], "--input.clusters", toy["clusters"], "--score", '["test"]'),
        *("--input.images", toy["images"], "--input.labels", toy["labels"], "--input.map", report / "map.safetensors"),
        *("--output.confusion", figures / "confusion.png", "--output.gallery", figures / "gallery.png"),
        *("--output.map_figure", figures / "map.png", "--gallery_images", "4"),
    )
    logs = [write_log("simclr", 3), write_log("secu", 2)]
    run("plot_training", "--input.logs", *logs, "--output.figure", report / "training.png")
    run("plot_leaderboard", "--input.metrics", toy["metrics"], "--output.figure", report / "leaderboard.png")
    (tmp_path / "jobs.txt").write_text(f"{report / 'map.provenance.json'}\n")
    (tmp_path / "leaderboard.csv").write_text("dataset\ntoy\n")
    (tmp_path / "experiment.yaml").write_text("backbones: {simclr: {method: simclr}}\n")
    done = tmp_path / "results/report.html"
    run(
        *("report_page", "--input.metrics", toy["metrics"], "--input.figures", *sorted(figures.iterdir())),
        *("--input.records", report / "map.provenance.json", "--input.leaderboard", tmp_path / "leaderboard.csv"),
        *("--input.leaderboard_figure", report / "leaderboard.png", "--input.training", report / "training.png"),
        *("--input.experiment", tmp_path / "experiment.yaml"),
        *(
            "--input.job_list",
            tmp_path / "jobs.txt",
            "--output.page",
            done,
            "--provenance",
            tmp_path / "report.provenance.json",
        ),
    )
    html = done.read_text(encoding="utf-8")
    assert html.count("<img") == 5
    assert "method: simclr" in html
    provenance = json.loads((tmp_path / "report.provenance.json").read_text())
    assert provenance["options"] == {"page_runs": 24}
    assert provenance["inputs"]["metrics.0"]["path"] == str(toy["metrics"])


def test_figures_of_a_run_whose_every_seed_failed(toy, tmp_path, write_metrics):
    run(
        "project_map",
        "--input.features",
        toy["features"],
        "--score",
        '["test"]',
        "--output.map",
        tmp_path / "map.safetensors",
    )
    write_tensors(toy["clusters"], {})
    figures = [tmp_path / f"{name}.png" for name in ("confusion", "gallery", "map")]
    run(
        *("plot_run", "--input.metrics", write_metrics(all_failed="collapsed"), "--input.clusters", toy["clusters"]),
        *("--score", '["test"]', "--input.images", toy["images"], "--input.labels", toy["labels"]),
        *(
            "--input.map",
            tmp_path / "map.safetensors",
            "--output.confusion",
            figures[0],
            "--output.gallery",
            figures[1],
        ),
        *("--output.map_figure", figures[2]),
    )
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures)


def test_damaged_metrics_end_in_one_line_and_no_figure(toy, tmp_path):
    run(
        "project_map",
        "--input.features",
        toy["features"],
        "--score",
        '["test"]',
        "--output.map",
        tmp_path / "map.safetensors",
    )
    broken = toy["metrics"].read_text().replace('"selected": 1', '"selected": 9')
    toy["metrics"].write_text(broken)
    done = run(
        *("plot_run", "--input.metrics", toy["metrics"], "--input.clusters", toy["clusters"], "--score", '["test"]'),
        *(
            "--input.images",
            toy["images"],
            "--input.labels",
            toy["labels"],
            "--input.map",
            tmp_path / "map.safetensors",
        ),
        *(
            "--output.confusion",
            tmp_path / "c.png",
            "--output.gallery",
            tmp_path / "g.png",
            "--output.map_figure",
            tmp_path / "m.png",
        ),
        code=1,
    )
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.png"))
