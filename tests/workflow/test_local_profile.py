"""One machine with one GPU, or none."""

import json
import shutil
from datetime import datetime

from small_experiment import snakemake

BACKBONES = ("simclr", "elsewhere")


def span(project, backbone):
    record = json.loads((project / f"results/backbones/{backbone}/model.provenance.json").read_text())
    start = datetime.fromisoformat(record["started"]).timestamp()
    return start, start + record["seconds"]


def test_jobs_take_turns_at_the_gpu(project, tmp_path):
    """Both trainings could start at once, and there are CPUs for both."""
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    for backbone in BACKBONES:
        shutil.rmtree(copy / "results" / "backbones" / backbone)
    words = ["--profile", "profiles/local", "--cores", "2", "--set-threads", "pretrain=1", "--configfile", "small.yaml"]
    done = snakemake(copy, *words, "--", *(f"results/backbones/{backbone}/model.json" for backbone in BACKBONES))
    assert done.returncode == 0, done.stderr[-3000:]
    (start, end), (other_start, other_end) = (span(copy, backbone) for backbone in BACKBONES)
    assert start >= int(other_end) or other_start >= int(end)
