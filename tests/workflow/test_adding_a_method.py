"""The page on adding a method is true: its code, put into a clone, runs to the report, with nothing else changed."""

import re
import subprocess
import sys

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from small_experiment import ROOT, copy_project, deepclust, snakemake

PAGE = ROOT / "docs" / "adding-a-method.md"
GENERATED = {"workflow/schemas/config.schema.json", "docs/options.md"}
BLOCK = re.compile(r"`([\w/.-]+)`:\n\n```\w+\n(.*?)```", re.DOTALL)


def files(folder):
    """What is in every file of a clone, by path."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def generate(folder, *words):
    return deepclust(folder, "generate", *words)


@pytest.fixture(scope="module")
def added():
    return dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def clone(tmp_path_factory, added):
    """A clone with the files of the page, and the paths that differ from before."""
    folder = tmp_path_factory.mktemp("clone")
    copy_project(folder)
    (folder / "docs").mkdir()
    for name in ("options.md", "backbones.md"):
        (folder / "docs" / name).write_bytes((ROOT / "docs" / name).read_bytes())
    before = files(folder)
    for name, text in added.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = generate(folder)
    assert done.returncode == 0, done.stderr
    after = files(folder)
    return folder, {name for name in after if after[name] != before.get(name)}


def test_page_adds_one_of_each_kind(added):
    folders = sorted(re.sub(r".*deepclust/|/[^/]*$", "", name) for name in added if name.endswith(".py"))
    assert folders == ["data/loaders", "heads", "pretraining", "reporting/figures"]


def test_a_method_is_one_file_and_what_is_generated(clone, added):
    _, changed = clone
    assert changed == set(added) | GENERATED


def test_generated_files_tell_the_new_options(clone):
    folder, _ = clone
    page = (folder / "docs" / "options.md").read_text(encoding="utf-8")
    for heading in ("### loader: arrays", "### method: rotation", "### method: minibatch"):
        assert heading in page
    assert generate(folder, "--check").returncode == 0


def test_code_of_the_page_is_in_the_style_of_the_project(clone, added):
    folder, _ = clone
    code = [name for name in added if name.endswith(".py")]
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml"), *code]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_experiment_of_the_page_runs_to_the_report(clone, added):
    folder, _ = clone
    digits = load_digits()
    images, labels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None], digits.target
    np.savez(
        folder / "digits.npz", x_train=images[:900], y_train=labels[:900], x_test=images[900:], y_test=labels[900:]
    )
    (experiment,) = (name for name in added if name.endswith(".yaml"))
    done = snakemake(folder, "--cores", "2", "--configfile", experiment)
    assert done.returncode == 0, done.stderr[-6000:]
    runs = yaml.safe_load(added[experiment])["runs"][0]
    report = (folder / "results" / "report.html").read_text(encoding="utf-8")
    leaderboard = next((folder / "results").rglob("leaderboard.csv")).read_text(encoding="utf-8").splitlines()
    assert len(leaderboard) == 1 + len(runs["backbones"]) * len(runs["heads"])
    assert "rotation" in report and "minibatch" in report
    assert "<h2>Found of what can be found</h2>" in report
