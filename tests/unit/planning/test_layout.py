"""Rules, commands and the graph of jobs fit together: names of files are those that the commands declare."""

import importlib
import re
from collections import Counter
from functools import cache
from types import SimpleNamespace

import pytest
import yaml

from deepclust.core.command import Files
from deepclust.core.errors import DeepclustError
from deepclust.core.fingerprint import SCRIPTS
from deepclust.planning.graph import JobGraph
from deepclust.planning.layout import RULES, File, file, log_of, rule_of
from deepclust.planning.parameters import Parameters
from deepclust.planning.plan import make_plan

ROOT = SCRIPTS.parent.parent
EXPERIMENTS = [
    ROOT / "config.yaml",
    *(ROOT / "experiments" / f"cifar10-{name}.yaml" for name in ("scan-cpu", "deepcluster-cpu", "secu")),
]
WRITTEN_IN_PYTHON = {"list_runs", "write_experiment"}


@cache
def graph(path):
    return JobGraph(Parameters(make_plan(yaml.safe_load(path.read_text()), [path])))


@cache
def arguments(rule):
    return importlib.import_module(rule).Arguments


def required(files):
    return {name for name, field in files.model_fields.items() if field.is_required()}


COMMANDS = sorted(set(RULES) - WRITTEN_IN_PYTHON)


@pytest.mark.parametrize("rule", COMMANDS)
def test_outputs_of_a_rule_are_those_of_its_command(rule):
    declared = arguments(rule).model_fields["output"].annotation
    assert set(declared.model_fields) == set(RULES[rule].outputs) - {"provenance"}


def test_inputs_of_a_rule_are_those_of_its_command():
    """Over several experiments, in which every job of a rule has the same names."""
    names = {}
    for path in EXPERIMENTS:
        for job in graph(path).jobs:
            found = graph(path).inputs(job.rule, dict(job.wildcards))
            names.setdefault(job.rule, set()).update(found)
            if job.rule not in WRITTEN_IN_PYTHON:
                declared = arguments(job.rule).model_fields["input"].annotation
                assert required(declared) <= {name for name, value in found.items() if value}, job
    for rule in names.keys() - WRITTEN_IN_PYTHON - {"extract_features"}:
        declared = arguments(rule).model_fields["input"].annotation
        assert set(declared.model_fields) == names[rule] - {"lists"}, rule
    assert set(arguments("extract_features").model_fields["input"].annotation.model_fields) == {
        *names["extract_features"],
        "parts",  # which Snakemake's settings tell, not the experiment
    }
    assert names.keys() >= {"pretrain", "fetch_weights", "pixels", "score_snapshots", "probe_layers", "report_page"}


def test_no_path_stands_twice():
    patterns = Counter(pattern for rule, files in RULES.items() for pattern in files.outputs.values())
    backbone = set(RULES["pixels"].outputs.values())  # made in one of three ways
    assert {pattern for pattern, count in patterns.items() if count > 1} == backbone
    written = re.compile(r"""["'](?:results|logs)/[^"' ]*["']""")
    library = [path for path in SCRIPTS.rglob("*.py") if path.name != "layout.py"]
    for path in [*(ROOT / "workflow" / "rules").glob("*.smk"), ROOT / "Snakefile", *library]:
        found = [text for text in written.findall(path.read_text()) if text != '"logs/clean_states.log"']
        assert not found, path
    runs = [
        path for path in library if "-{self.protocol}" in path.read_text() or "-{words.protocol}" in path.read_text()
    ]
    assert not runs


def test_a_rule_is_short():
    """The helpers of the rules are typed and tested; what Snakemake alone can do stays."""
    common = (ROOT / "workflow" / "rules" / "common.smk").read_text().splitlines()
    assert len(common) <= 150
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        shells = re.findall(r"\n    shell:\n        (.*)", path.read_text())
        assert set(shells) - {"COMMAND"} == set() or path.name == "backbones.smk"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_file_that_a_job_reads_is_written_by_another(path):
    jobs = graph(path).jobs
    written = {job.file(name) for job in jobs for name in RULES[job.rule].outputs}
    for job in jobs:
        for value in graph(path).inputs(job.rule, dict(job.wildcards)).values():
            for each in [value] if isinstance(value, str) else value:
                assert each in written or not isinstance(each, File) or each.job.rule == "download"


def test_what_is_lost(tmp_path, monkeypatch):
    """Nothing is while nothing is there; then all but large results whose record stands."""
    monkeypatch.chdir(tmp_path)
    experiment = graph(EXPERIMENTS[0])
    assert experiment.lost() == []
    assert "results/report.html" not in experiment.records()
    for job in experiment.jobs:
        for name in RULES[job.rule].outputs:
            path = tmp_path / job.file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert experiment.lost() == []
    features = file("extract_features", "features", dataset="digits", backbone="pixels", split="test")
    record = file("extract_features", "provenance", dataset="digits", backbone="pixels", split="test")
    (tmp_path / features).unlink()
    assert experiment.lost() == []
    (tmp_path / record).unlink()
    assert experiment.lost() == [record]


def test_names_that_the_experiment_lacks():
    experiment = graph(EXPERIMENTS[0])
    with pytest.raises(DeepclustError, match="backbones defines no 'simcl'; did you mean 'simclr'"):
        experiment.inputs("extract_features", {"dataset": "digits", "backbone": "simcl", "split": "test"})
    with pytest.raises(DeepclustError, match="k3-held-out is no run"):
        experiment.inputs(
            "cluster",
            {"dataset": "digits", "backbones": "pixels", "head": "kmeans", "k": "3", "protocol": "held-out"},
        )


def test_a_file_whose_manifest_is_there_is_not_hashed(tmp_path):
    class Read(Files):
        images: list | None = None
        manifests: list | None = None
        snapshots: object = None

    (tmp_path / "snapshots" / "epoch-2").mkdir(parents=True)
    (tmp_path / "snapshots" / "epoch-2" / "model.json").touch()
    images, manifest = tmp_path / "images.bin", tmp_path / "images.json"
    assert Read(images=[images]).recorded() == {"images.0": images}
    files = Read(images=[images], manifests=[manifest], snapshots=tmp_path / "snapshots")
    snapshot = tmp_path / "snapshots" / "epoch-2" / "model.json"
    assert files.recorded() == {"manifests.0": manifest, "snapshots.epoch-2": snapshot}


@pytest.mark.parametrize("name", ["{}", "cluster_{}", "{}_of_photos"])
def test_a_rule_is_known_under_another_name_and_by_a_link(name, tmp_path):
    def job(rule, snakefile, *log):
        return SimpleNamespace(rule=SimpleNamespace(name=name.format(rule), snakefile=str(snakefile), log=log))

    (tmp_path / "link").symlink_to(ROOT)
    for rules in (ROOT / "workflow" / "rules", tmp_path / "link" / "workflow" / "rules"):
        assert [rule_of(job(rule, rules / "any.smk", log_of(rule))) for rule in RULES] == list(RULES)
        assert rule_of(job("all", rules / "any.smk")) is None
    assert rule_of(job("prepare", "/elsewhere/Snakefile", log_of("prepare"))) is None
