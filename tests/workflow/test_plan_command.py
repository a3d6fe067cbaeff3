"""The plan on one screen agrees with what Snakemake itself would run."""

import copy
import re
from collections import Counter

import pytest
import yaml

from small_experiment import EXPERIMENT, copy_experiment, deepclust


def plan(folder, *words):
    done = deepclust(folder, "plan", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts(text):
    return {rule: int(number) for rule, number in re.findall(r"^  (\w+) +(\d+)  \S", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A clone with the small experiment, before anything ran."""
    folder = tmp_path_factory.mktemp("fresh")
    copy_experiment(folder)
    return folder


def test_before_anything_ran(fresh, dry_runs):
    text = plan(fresh, "--images-per-second", "100", "--profile", "profiles/slurm", "--configfile", "small.yaml")
    assert counts(text) == Counter(job["rule"] for job in dry_runs(forceall=True))
    assert "simclr: 1 epochs of 1,347 images: 0.0037 h at 100 images/s (as given)" in text
    assert "at most 51 GPU-hours" in text  # 3 trainings of 12 h, 10 extractions of 1, snapshots of 4, stages of 1
    assert "features: 10 files whose size shows" in text
    assert "prepared images: 115 kB, and 1 splits of unknown size" in text  # 1,797 digits of 8 x 8 pixels
    assert "snapshots: 2 copies" in text  # at the start and after the only epoch
    assert "From the hub" not in text
    assert "not there yet" in text and "are free" in text
    assert len(text.splitlines()) < 40
    assert not (fresh / "results").exists()


def assignments(text):
    """In kB."""
    ((size, unit),) = re.findall(r"assignments.*: ([\d.]+) ([kM])B", text)
    return float(size) * {"k": 1, "M": 1000}[unit]


def test_the_words_of_snakemake(fresh):
    """What chooses jobs or changes the experiment has the effect that it has there."""
    with_two, with_four = (plan(fresh, "--config", f"seeds={seeds}", "--configfile", "small.yaml") for seeds in (2, 4))
    assert assignments(with_four) == pytest.approx(2 * assignments(with_two), rel=0.01)
    assert counts(plan(fresh, "--configfile", "small.yaml", "--until", "prepare")) == {"prepare": 3}
    assert "cluster" not in counts(plan(fresh, "--configfile", "small.yaml", "--omit-from", "extract_features"))


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


def test_images_of_a_list_are_counted(fresh):
    (fresh / "list.txt").write_text("".join(f"{path}\n" for path in sorted(fresh.glob("shapes/*/*.png"))))
    (fresh / "shards").mkdir()
    config = yaml.safe_load(EXPERIMENT)
    config["datasets"]["shapes"] = {"loader": "list", "path": "list.txt"}
    config["datasets"]["sharded"] = {"loader": "shards", "path": "shards"}
    config["backbones"]["later"]["dataset"] = "sharded"
    config["backbones"]["later"]["image_size"] = 8
    (fresh / "listed.yaml").write_text(yaml.safe_dump(config))
    text = plan(fresh, "--images-per-second", "1", "--configfile", "listed.yaml")
    assert "elsewhere: 1 epochs of 96 images: 0.027 h" in text
    assert "later: 1 epochs of an unknown number of images\n" in text
    assert re.search(r"and 1 of unknown speed .*or number of images$", text, re.MULTILINE)


@pytest.mark.parametrize("command", [["plan"], ["accept", "--why", "renamed"]])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--configfile", "small.yaml", "--", "results/data/nosuch/train/images.bin"], "datasets defines no 'nosuch'"),
        (["--configfile", "small.yaml", "--", "results/evaluation/digits/small/scan/k1-train/metrics.json"], "no run"),
        (["nosuch.txt"], "No rule to produce nosuch.txt"),
        (["--configfile", "nosuch.yaml"], "nosuch.yaml: there is no such file"),
        (["--configfile", "broken.yaml"], "broken.yaml, line 2, column 1"),
        (["--config", "k=7"], "--config k=7: unknown key (known: datasets, "),
        (["--config", "seed=7"], "--config seed=7: unknown key; did you mean 'seeds'?"),
        (["--config", "seeds"], "--config seeds: must be written KEY=VALUE"),
    ],
)
def test_what_cannot_be_planned_is_one_line(fresh, command, words, message):
    (fresh / "broken.yaml").write_text("seeds: 3\n\tdatasets: {}\n")
    done = deepclust(fresh, *command, *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert message in line
