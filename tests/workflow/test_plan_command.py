"""The plan on one screen agrees with what Snakemake itself would run."""

import copy
import re
import subprocess
import sys
from collections import Counter

import yaml

from small_experiment import EXPERIMENT, copy_project, draw_shapes, environment, write_weights


def plan(folder, *words):
    done = subprocess.run(
        [sys.executable, "tools/plan.py", *words], cwd=folder, capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts(text):
    return {rule: int(number) for rule, number in re.findall(r"^  (\w+) +(\d+)  \S", text, re.MULTILINE)}


def test_before_anything_ran(tmp_path, dry_runs):
    copy_project(tmp_path)
    draw_shapes(tmp_path / "shapes")
    write_weights(tmp_path / "weights.pth")
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    text = plan(tmp_path, "--images-per-second", "100", "--profile", "profiles/slurm", "--configfile", "small.yaml")
    assert counts(text) == Counter(job["rule"] for job in dry_runs(forceall=True))
    assert "simclr: 1 epochs of 1,347 images: 0.0037 h at 100 images/s (as given)" in text
    assert "at most 46 GPU-hours" in text  # 3 trainings of 12 hours, 10 extractions of 1
    assert "features: 10 files whose size shows" in text
    assert "not there yet" in text and "are free" in text
    assert len(text.splitlines()) < 40
    assert not (tmp_path / "results").exists()


def test_what_invalidated_the_jobs(project, dry_runs, experiment):
    config = copy.deepcopy(experiment)
    config["heads"]["kmeans"]["n_init"] = 7
    expected = Counter(job["rule"] for job in dry_runs(config))
    (project / "changed.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    text = plan(project, "--configfile", "changed.yaml")
    assert counts(text) == expected
    assert re.search(r"^  cluster +5  option n_init, what it reads is made anew$", text, re.MULTILINE)
    assert re.search(r"^  evaluate +5  what it reads is made anew$", text, re.MULTILINE)


def test_nothing_to_do(project):
    assert plan(project, "--configfile", "small.yaml").startswith("0 jobs would run\n")
