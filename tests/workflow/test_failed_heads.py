"""A head whose every seed fails is a result: it is told in every table, and keeps nothing else back."""

import csv
import json
import re
import shutil

import yaml

from small_experiment import snakemake

FOLDER = "results/{}/shapes/small/{}/k3-merged"


def test_heads_whose_every_seed_fails(project, experiment, tmp_path):
    """One collapses, one combines it with a good one, and one has nothing else to combine."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    experiment = yaml.safe_load(yaml.safe_dump(experiment))  # the fixture is everybody's
    experiment["heads"] |= {
        "collapsed": {**experiment["heads"]["scan"], "learning_rate": 3e37},
        "rest": {**experiment["heads"]["both"], "members": ["kmeans", "collapsed"]},
        "nothing": {**experiment["heads"]["both"], "members": ["collapsed"]},
    }
    del experiment["evaluation"]["layer_probe"]  # of another backbone
    experiment["runs"] = [
        {"dataset": "shapes", "backbones": ["small"], "heads": ["kmeans", "collapsed", "rest", "nothing"], "k": 3}
    ]
    (copy / "failing.yaml").write_text(yaml.safe_dump(experiment))
    done = snakemake(copy, "--cores", "2", "--configfile", "failing.yaml")
    assert done.returncode == 0, done.stderr[-5000:]

    log = json.loads((copy / FOLDER.format("clustering", "collapsed") / "seeds.json").read_text())
    assert [entry["status"] for entry in log["seeds"]] == ["failed", "failed"] and log["selected"] is None
    reason = log["seeds"][0]["reason"]
    said = (copy / "logs/cluster/shapes/small/collapsed/k3-merged.log").read_text()
    assert f"warning: every seed failed; seed 0: {reason}" in said
    metrics = json.loads((copy / FOLDER.format("evaluation", "collapsed") / "metrics.json").read_text())
    assert metrics["failed"] == [0, 1] and metrics["summary"]["acc"]["mean"] is None

    with (copy / "results" / "leaderboard.csv").open(newline="") as file:
        rows = {row["head"]: row for row in csv.DictReader(file)}
    seeds = {head: row["seeds"] for head, row in rows.items()}
    assert seeds == {"kmeans": "2", "rest": "2", "collapsed": "0", "nothing": "0"}
    assert rows["collapsed"]["failure"] == reason
    assert rows["nothing"]["failure"].startswith("nothing to combine: every seed of collapsed failed")
    assert rows["collapsed"]["acc_mean"] == rows["collapsed"]["label_free_choice"] == ""
    assert sorted(rows[head]["label_free_choice"] for head in ("kmeans", "rest")) == ["no", "yes"]
    assert len(re.findall(r"small +collapsed +3 +train +failed", done.stderr)) == 1
    page = (copy / "results" / "report.html").read_text()
    assert page.count("Every seed failed, so there are no clusters") == 2 and reason in page
    again = snakemake(copy, "-n", "--configfile", "failing.yaml")
    assert "Nothing to be done" in again.stdout + again.stderr
