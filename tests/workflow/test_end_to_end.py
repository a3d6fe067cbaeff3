"""The small experiment from images to report, and what a user does with it afterwards."""

import base64
import csv
import html.parser
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from safetensors.numpy import load_file

from deepclust.planning.graph import JobGraph
from deepclust.planning.parameters import Parameters
from deepclust.planning.plan import make_plan
from small_experiment import EXPERIMENT, ROOT, copy_project, draw_shapes, environment, name, snakemake

COLUMNS = {
    *("dataset", "backbone", "head", "k", "split", "seeds", "acc_mean", "acc_std", "nmi_mean", "nmi_std", "ari_mean"),
    *("ari_std", "ami_mean", "silhouette_mean", "stability", "knn_acc", "linear_acc", "seconds", "peak_memory_mb"),
    "device",
}


def rows(project):
    with (project / "results" / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_leaderboard_has_one_row_per_run(project):
    table = rows(project)
    assert set(table[0]) >= COLUMNS
    found = {(row["dataset"], row["backbone"], row["head"], row["k"], row["split"]) for row in table}
    chosen = json.loads((project / "results/clustering/shapes/fetched/k/merged.json").read_text())["k"]
    assert len(table) == 9 and 2 <= chosen <= 5
    assert found == {
        ("shapes", "fetched", "other", str(chosen), "train"),
        ("digits", "later", "kmeans", "10", "test"),
        ("digits", "elsewhere", "kmeans", "10", "test"),
        ("digits", "pixels+simclr", "kmeans", "10", "test"),
        ("shapes", "small", "kmeans", "3", "train"),
        ("shapes", "small", "other", "3", "train"),
        ("shapes", "fetched", "other", "3", "train"),
        ("shapes", "small", "scan", "3", "train"),
        ("shapes", "small", "both", "3", "train"),
    }
    seen = {row["backbone"]: row["trained_on"] for row in table}
    assert seen["small"] == "nothing" and seen["fetched"] == "data not stated, supervision not stated"
    assert seen["elsewhere"] == "shapes (train), self-supervised, here"
    for row in table:
        assert all(row[column] for column in COLUMNS), row
        assert row["seeds"] == "2"
        assert 0 < float(row["acc_mean"]) <= 1 and float(row["seconds"]) >= 0


def test_a_backbone_pretrained_on_one_dataset_clusters_another(project):
    model = json.loads((project / "results/backbones/elsewhere/model.json").read_text())
    assert model["dataset"] == "shapes"
    features = np.load(project / "results/features/digits/elsewhere/test/features.npy")
    assert features.shape == (450, model["feature_dim"])
    assert {row["backbone"] for row in rows(project) if row["dataset"] == "digits"} >= {"elsewhere"}


def test_a_backbone_starts_from_another(project):
    start, end = (load_file(project / f"results/backbones/{b}/model.safetensors") for b in ("simclr", "later"))
    assert json.loads((project / "results/backbones/later/model.json").read_text())["start_from"] == "simclr"
    assert start.keys() == end.keys() and any((start[key] != end[key]).any() for key in start)


def test_scores_agree_with_an_independent_computation(project):
    """From the files on disk, with scikit-learn and scipy only."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score

    labels = np.load(project / "results/labels/digits/test/labels.npy")
    clusters = load_file(project / "results/clustering/digits/later/kmeans/k10-held-out/clusters.safetensors")
    found = []
    for seed in (0, 1):
        assigned = clusters[f"seed{seed}/assignments/test"]
        table = confusion_matrix(labels, assigned)
        hits = table[linear_sum_assignment(-table)].sum()
        found.append(
            (hits / 450, normalized_mutual_info_score(labels, assigned), adjusted_rand_score(labels, assigned))
        )
    row = next(row for row in rows(project) if row["backbone"] == "later")
    for column, value in zip(("acc_mean", "nmi_mean", "ari_mean"), np.mean(found, 0)):
        assert float(row[column]) == pytest.approx(value, abs=5e-5)  # the table has four digits


def test_every_result_has_its_provenance(project, dry_runs):
    jobs = [job for job in dry_runs(forceall=True) if job["rule"] not in {"list_runs", "write_experiment"}]
    for job in jobs:
        path = next(path for path in job["output"] if path.endswith("provenance.json"))
        record = json.loads((project / path).read_text())
        assert record["rule"] == job["rule"], path
        assert record["code"] and record["packages"]["numpy"] and record["seconds"] > 0
        for output in record["outputs"].values():
            assert len(output["sha256"]) == 64


def test_every_image_is_told_its_cluster(project):
    """The table names the files of the folder, and has the clusters of the selected seed."""
    run = project / "results" / "evaluation" / "shapes" / "small" / "kmeans" / "k3-merged"
    with (run / "assignments.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["path"] for line in lines) == sorted(
        str(path.relative_to(project / "shapes")) for path in (project / "shapes").rglob("*.png")
    )
    clusters = load_file(
        project / "results" / "clustering" / "shapes" / "small" / "kmeans" / "k3-merged/clusters.safetensors"
    )
    seed = json.loads((run / "metrics.json").read_text())["selected"]
    assert [int(line["cluster"]) for line in lines] == clusters[f"seed{seed}/assignments/train"].tolist()
    assert {line["split"] for line in lines} == {"train"}
    both = project / "results" / "evaluation" / "digits" / "later" / "kmeans" / "k10-held-out" / "assignments.csv"
    with both.open(newline="") as file:
        assert {line["split"] for line in csv.DictReader(file)} == {"train", "test"}


def metadata_file(project, output):
    """Where Snakemake keeps what it knows of an output."""
    return project / ".snakemake" / "metadata" / base64.urlsafe_b64encode(output.encode()).decode()


# Rules that read labels, `prepare` that writes them, and what is made of scores.
READERS = {"prepare", "probe", "probe_layers", "evaluate", "score_snapshots", "plot_run"}
AFTER_SCORES = {"leaderboard", "report_page"} | {f"plot_experiment {f}" for f in ("leaderboard", "snapshots", "layers")}


def test_labels_cannot_reach_training(project, dry_runs):
    """Neither labels nor names of images are inputs of any job but those of a few rules, or of its ancestors."""
    jobs = dry_runs(forceall=True)
    maker = {path: job for job in jobs for path in job["output"]}

    def ancestors(job):
        for path in job["input"]:
            yield job, path
            if path in maker and maker[path]["rule"] != "prepare":
                yield from ancestors(maker[path])

    blind = [job for job in jobs if job["rule"] not in READERS and name(job) not in AFTER_SCORES]
    assert {job["rule"] for job in blind} >= {
        *("pixels", "fetch_weights", "pretrain", "extract_features", "find_neighbors", "choose_k", "cluster"),
        *("project_map", "plot_setting", "plot_experiment"),
    }
    for job in blind:
        record = json.loads(metadata_file(project, job["output"][0]).read_text())
        assert "results/labels" not in (record["shellcmd"] or ""), name(job)
        for reader, path in ancestors(job):
            assert not path.startswith("results/labels/"), (name(job), name(reader), path)
    assert any(path.startswith("results/labels/") for job in jobs if job["rule"] == "evaluate" for path in job["input"])


def test_labels_are_read_by_no_other_rule():
    """Over experiments in which every rule has jobs but those of parts, whose inputs are those of all features."""
    readers, rules = {"prepare"}, set()
    for experiment in ("cifar10-scan-cpu", "cifar10-deepcluster-cpu", "cifar10-secu"):
        path = ROOT / "experiments" / f"{experiment}.yaml"
        graph = JobGraph(Parameters(make_plan(yaml.safe_load(path.read_text()), [path])))
        for job in graph.jobs:
            rules.add(job.rule)
            for value in graph.inputs(job.rule, dict(job.wildcards)).values():
                for file in [value] if isinstance(value, str) else value:
                    if file.startswith("results/labels/"):
                        readers.add(job.rule)
    assert readers == READERS
    assert {"pretrain", "find_neighbors", "cluster", "leaderboard", "report_page"} <= rules


def test_prepared_images_do_not_tell_the_class(project):
    """Ids are opaque: the class of an image is no function of its row."""
    labels = np.load(project / "results/labels/shapes/train/labels.npy")
    assert set(labels) == {0, 1, 2}
    assert not (np.diff(labels) >= 0).all()
    manifest = (project / "results/data/shapes/train/images.json").read_text()
    assert "ring" not in manifest and "png" not in manifest


def test_progress_and_closing_table_were_shown(project):
    said = (project / "output.txt").read_text()
    assert "results/report.html" in said
    table = said[said.index("dataset") :]
    assert "pixels+simclr" in said and "ACC" in said and table
    assert not list((project / "logs").rglob("*.progress"))


class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.addresses, self.images = [], 0

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in {"src", "href"}:
                self.addresses.append(value)
        self.images += tag == "img"


def test_report_page_stands_alone(project):
    page = Page()
    text = (project / "results" / "report.html").read_text()
    page.feed(text)
    assert page.images >= 10
    assert all(address.startswith(("data:", "#")) for address in page.addresses), set(page.addresses)
    assert "@import" not in text and not re.search(r"url\((?!['\"]?data:)", text)
    assert "pixels+simclr" in text


def test_snakemake_report(project):
    done = snakemake(project, "--configfile", "small.yaml", "--report", "report.zip")
    assert done.returncode == 0, done.stderr
    names = zipfile.ZipFile(project / "report.zip").namelist()
    assert sum(entry.endswith(".png") for entry in names) >= 5 * 3
    assert any(entry.endswith("leaderboard.csv") for entry in names)


@pytest.mark.parametrize("kind", ["--dag", "--rulegraph"])
def test_graphs(project, kind):
    done = snakemake(project, "--configfile", "small.yaml", kind)
    assert done.returncode == 0 and done.stdout.startswith("digraph"), done.stdout[:200]


def test_lint_is_clean(project):
    done = snakemake(project, "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_run_without_snakemake(project):
    """The command that Snakemake prints can be pasted into a terminal."""
    done = snakemake(
        project,
        "--configfile",
        "small.yaml",
        "-n",
        "-p",
        "-R",
        "find_neighbors",
        "--",
        "results/features/digits/later/test/half_whitened_neighbors.npy",
    )
    command = re.search(r"python workflow/scripts/find_neighbors\.py .*", done.stdout + done.stderr).group()
    target = project / "results/features/digits/later/test/half_whitened_neighbors.npy"
    before = target.read_bytes()
    command = command.replace(str(target.relative_to(project)), "by_hand.npy")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, shell=True, check=True, cwd=project, env={**environment(), "PATH": path})
    assert (project / "by_hand.npy").read_bytes() == before


@pytest.mark.parametrize("experiment", sorted(path.name for path in ROOT.glob("experiments/*.yaml")))
def test_shipped_experiments_can_be_planned(dry_runs, project, experiment):
    if not (project / "my_images").exists():
        draw_shapes(project / "my_images")
    for split in ("train", "val"):
        (project / "data" / "imagenet" / split).mkdir(parents=True, exist_ok=True)
    assert "report_page" in {job["rule"] for job in dry_runs(configfiles=[f"experiments/{experiment}"])}


# --- things that go wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (EXPERIMENT.replace("n_init: 2", "n_int: 2"), ["heads.kmeans.n_int: unknown key; did you mean 'n_init'?"]),
        (
            EXPERIMENT.replace("k: 10", "k: 5000"),
            ["runs.0.k: 5000 clusters are more than the 1347 images of digits (train)"],
        ),
        (EXPERIMENT + "\nseeds: 3\n", [f"line {EXPERIMENT.count(chr(10)) + 2}, column 1: duplicate key 'seeds'"]),
        (
            EXPERIMENT.replace("path: shapes", "path: shape").replace("seeds: 2", "seeds: 0"),
            ["datasets.shapes.path: there is no folder shape (in PROJECT)", "seeds: needs at least one seed"],
        ),
    ],
)
def test_a_bad_config_ends_in_exactly_its_errors(project, text, lines):
    (project / "bad.yaml").write_text(text)
    done = snakemake(project, "-n", "--configfile", "bad.yaml")
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "bad.yaml" in line]
    told = [line.split("bad.yaml", 1)[1].lstrip(":, ").replace(str(project), "PROJECT") for line in said]
    assert told == lines
    assert "Traceback" not in done.stderr and done.stderr.splitlines()[-len(lines) :] == said


@pytest.mark.parametrize("text", ["", "- a\n", "datasets: [\n", "\t"])
def test_files_that_are_no_experiment(project, text):
    (project / "bad.yaml").write_text(text)
    done = snakemake(project, "-n", "--configfile", "bad.yaml")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("text", ["", "- a\n", "datasets: [\n", "datasets: {}\ndatasets: {}\n"])
def test_a_broken_default_config(tmp_path, text):
    copy_project(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    done = snakemake(tmp_path, "-n")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("config.yaml")


def test_another_experiment_replaces_the_default(project):
    """Nothing of config.yaml leaks into it, and --config still overrides."""
    done = snakemake(project, "-n", "--quiet", "host", "--configfile", "small.yaml", "--config", "seeds=4")
    said = done.stdout + done.stderr
    assert done.returncode == 0 and re.search(r"^cluster +9$", said, re.MULTILINE)
    assert not re.search(r"^(prepare|pretrain|extract_features) ", said, re.MULTILINE)


def test_experiment_edited_while_the_workflow_runs(project, tmp_path):
    """Also jobs that Snakemake runs itself, in a process that reads the experiment again, go by what was planned."""
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    copy = tmp_path / "copy"
    lists, experiment = copy / "results" / "lists" / "metrics.txt", copy / "small.yaml"
    before = lists.read_text()
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--configfile", "small.yaml", "-R", "list_runs", "--"]
    with subprocess.Popen(
        [*command, "results/lists/metrics.txt"], cwd=copy, stderr=subprocess.PIPE, text=True, env=environment()
    ) as running:
        for line in running.stderr:
            if line.startswith("Execute 1 jobs"):
                edited = yaml.safe_load(experiment.read_text())
                edited["runs"] = edited["runs"][:1]
                experiment.write_text(yaml.safe_dump(edited))
    assert running.returncode == 0
    assert len(yaml.safe_load(experiment.read_text())["runs"]) == 1 < len(before.splitlines())
    assert lists.read_text() == before


def test_states_are_removed_behind_a_link_too(project, tmp_path):
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    copy = tmp_path / "copy"
    (copy / "results").rename(tmp_path / "elsewhere")
    (copy / "results").symlink_to(tmp_path / "elsewhere")
    state = tmp_path / "elsewhere" / "backbones" / "simclr" / ".state-0"
    state.mkdir(parents=True)
    done = snakemake(copy, "--cores", "1", "--configfile", "small.yaml", "--", "clean_states")
    assert done.returncode == 0, done.stderr[-3000:]
    assert not state.exists()


def is_written_anew(log, before):
    """Snakemake removes a log before the job that writes it."""
    try:
        return log.stat().st_mtime_ns != before
    except FileNotFoundError:
        return False


def test_code_edited_while_the_workflow_runs(project, tmp_path):
    """A job planned under one code refuses to write a result under another."""
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    copy = tmp_path / "copy"
    head = copy / "workflow" / "scripts" / "deepclust" / "heads" / "kmeans.py"
    (copy / "logs" / "find_neighbors").mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--cores",
        "1",
        "--configfile",
        "small.yaml",
        "-R",
        "extract_features",
        "--",
        "results/clustering/digits/later/kmeans/k10-held-out/clusters.safetensors",
    ]
    running = subprocess.Popen(
        command, cwd=copy, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment()
    )
    log = copy / "logs" / "extract_features" / "digits" / "later" / "train.log"
    before = log.stat().st_mtime_ns
    while not is_written_anew(log, before):  # then the plan is made, and the first jobs run
        assert running.poll() is None
        time.sleep(0.02)
    head.write_text(head.read_text() + "\nEDITED = True\n")
    _, said = running.communicate(timeout=300)
    assert running.returncode != 0
    assert "error in cluster: the code of cluster changed after this job was planned" in said
    assert not (copy / "results/clustering/digits/later/kmeans/k10-held-out/clusters.safetensors").exists()


def test_a_killed_pretraining_goes_on(project, tmp_path):
    """SIGTERM (as Slurm sends it), then kill -9 of everything; each time started again: the weights are the same."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy, symlinks=True)
    (copy / "longer.yaml").write_text(
        EXPERIMENT.replace("epochs: 1", "epochs: 6").replace("batch_size: 256", "batch_size: 64")
    )
    target = "results/backbones/simclr/model.safetensors"
    folder = copy / "results" / "backbones" / "simclr"
    words = ["--cores", "1", "--configfile", "longer.yaml", "--rerun-incomplete", "--", target]

    def start():
        command = [sys.executable, "-m", "snakemake", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=copy, env=environment(), start_new_session=True, **quiet)

    def wait_for_steps():
        """Until training has done some steps."""
        progress = copy / "logs" / "pretrain" / "simclr.log.progress"
        deadline = time.time() + 120
        while time.time() < deadline:
            if progress.exists() and '"what": "epoch' in progress.read_text():
                return
            time.sleep(0.05)
        pytest.fail("training did not start")

    def training_processes():
        found = psutil.process_iter(["cmdline", "cwd"])
        mine = [
            process
            for process in found
            if process.info["cwd"] == str(copy) and process.info["cmdline"][:1] == ["python"]
        ]
        assert mine
        return mine

    assert start().wait(timeout=300) == 0
    expected = (copy / target).read_bytes()
    shutil.rmtree(folder)

    running = start()
    wait_for_steps()
    for process in training_processes():
        process.terminate()
    assert running.wait(timeout=120) != 0
    assert list(folder.glob(".state-*/*")), "it was stopped before its end, and saved its state"

    running = start()
    wait_for_steps()
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    (copy / "logs" / "pretrain" / "simclr.log.progress").unlink()
    snakemake(copy, "--unlock", "--configfile", "longer.yaml")

    assert start().wait(timeout=300) == 0
    assert (copy / target).read_bytes() == expected
    assert not list(folder.glob(".state-*"))
