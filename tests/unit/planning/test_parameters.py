import copy
import json
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from deepclust.core.command import parse_arguments
from deepclust.core.errors import DeepclustError
from deepclust.planning.file_states import listing_digest
from deepclust.planning.parameters import Flags, Parameters
from deepclust.planning.plan import make_plan
from deepclust.pretraining.launch.launcher_options import LauncherOptions

ROOT = Path(__file__).resolve().parents[3]

values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
keys = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True)


@given(st.dictionaries(keys, values))
def test_flags_survive_the_shell(options):
    words = iter(shlex.split(str(Flags(options))))
    read = dict(word.split("=", 1) if "=" in word else (word, next(words)) for word in words)
    expected = {
        f"--{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in options.items()
        if value is not None
    }
    assert read == expected


def nullable(node):
    """Options that may be null, with their defaults, at any depth of a schema."""
    for name, child in node.get("properties", {}).items():
        if {"type": "null"} in child.get("anyOf", []):
            yield name, child.get("default")
    for child in node.values():
        for each in child.values() if isinstance(child, dict) else []:
            if isinstance(each, dict):
                yield from nullable(each)


def test_null_is_only_ever_a_default():
    """No flag says null: a command then takes its default."""
    schema = json.loads((ROOT / "workflow" / "schemas" / "config.schema.json").read_text())
    found = list(nullable(schema))
    assert len(found) > 20
    assert [(name, default) for name, default in found if default is not None] == []


def test_nested_options_and_lists():
    flags = Flags({"b": {"y": [1, 2.5], "x": True}, "a": "it's"})
    assert str(flags) == "--a 'it'\"'\"'s' --b.x true --b.y '[1, 2.5]'"
    assert f"{flags}" == str(flags)


def test_values_that_look_like_something_else():
    assert str(Flags({"a": "-x", "b": "@y"})) == "--a=-x --b=@y"


@given(st.dictionaries(keys, st.dictionaries(keys, st.integers())), st.randoms())
def test_what_snakemake_records_does_not_depend_on_the_order_of_keys(options, random):
    shuffled = list(options.items())
    random.shuffle(shuffled)
    assert repr(Flags(options)) == repr(Flags(dict(shuffled)))


def test_swapped_values_differ():
    assert repr(Flags({"a": 1, "b": 2})) != repr(Flags({"a": 2, "b": 1}))


def test_listing_sees_new_changed_and_removed_files(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.png").write_bytes(b"1")
    first = listing_digest(tmp_path)
    assert listing_digest(tmp_path) == first
    (tmp_path / "x" / "2.png").write_bytes(b"2")
    second = listing_digest(tmp_path)
    (tmp_path / "x" / "2.png").write_bytes(b"22")
    third = listing_digest(tmp_path)
    (tmp_path / "x" / "2.png").unlink()
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "x" / "notes.txt").write_bytes(b"")
    assert len({first, second, third}) == 3 and listing_digest(tmp_path) == first


class Launched(BaseModel):
    """What the command `pretrain` reads of a launcher."""

    launcher: LauncherOptions


@pytest.mark.parametrize("sbatch", [{}, {"qos": "long"}, {"gres": "gpu:a100:4", "mail-user": "me@there's.org"}])
def test_the_command_reads_the_launcher_as_the_experiment_says_it(sbatch):
    config = yaml.safe_load("""
        datasets: {digits: {loader: digits}}
        backbones: {pixels: {method: pixels}}
        heads: {kmeans: {method: kmeans}}
        runs: [{dataset: digits, backbones: [pixels], heads: [kmeans], k: 10}]
    """)
    config["launcher"] = {"method": "submitit", "nodes": 2, "sbatch": sbatch}
    words = shlex.split(str(Parameters(make_plan(config, [])).launcher()))
    read = parse_arguments("pretrain", Launched, words).launcher
    assert read == LauncherOptions(method="submitit", nodes=2, sbatch=sbatch)


def test_heads_that_half_whiten_read_neighbors_among_half_whitened_features():
    config = yaml.safe_load("""
        datasets: {digits: {loader: digits}}
        backbones: {pixels: {method: pixels}}
        heads:
          kmeans: {method: kmeans, normalize: half_whiten}
          scan: {method: scan}
          halved: {method: scan, normalize: half_whiten}
          both: {method: consensus, members: [scan, halved]}
        runs: [{dataset: digits, backbones: [pixels], heads: [kmeans, scan, halved, both], k: 10}]
    """)
    parameters = Parameters(make_plan(config, []))
    expected = {"kmeans": None, "scan": "neighbors"} | dict.fromkeys(("halved", "both"), "half_whitened_neighbors")
    assert {head: parameters.neighbors_of(head) for head in expected} == expected
    flags = {kind: parameters.find_neighbors("digits", "pixels", "train", kind) for kind in expected.values() if kind}
    assert "half_whiten" in str(flags["half_whitened_neighbors"]) and "half_whiten" not in str(flags["neighbors"])


def searched(parameters, dataset, backbone, splits):
    kinds = ("neighbors", "half_whitened_neighbors")
    return [parameters.find_neighbors(dataset, backbone, splits, kind)["k"] for kind in kinds]


def test_as_many_neighbors_are_searched_as_are_read():
    """Of each kind, among the images that a head is fitted on or a backbone is trained on, and nowhere else."""
    config = yaml.safe_load("""
        datasets: {digits: {loader: digits}}
        backbones:
          pixels: {method: pixels}
          small: {method: pixels, image_size: 4}
          simclr: &training {method: simclr, dataset: digits}
          fine: {<<: *training, method: scan, start_from: simclr, clusters: 10, nearest: 30}
        heads:
          temi: {method: temi}
          few: {method: spectral, neighbors: 8}
          halved: {method: two_stage, normalize: half_whiten, neighbors: 60}
          kmeans: {method: kmeans}
        runs:
          - {dataset: digits, backbones: [pixels], heads: [temi, few, kmeans], k: 10}
          - {dataset: digits, backbones: [fine, [pixels, small]], heads: [halved, kmeans], k: 10, protocol: merged}
    """)
    parameters = Parameters(make_plan(copy.deepcopy(config), []))
    assert searched(parameters, "digits", "pixels", "train") == [50, 20]
    assert searched(parameters, "digits", "pixels", "test") == [20, 20]
    assert searched(parameters, "digits", "pixels", "train+test") == [20, 60]
    assert searched(parameters, "digits", "small", "train+test") == [20, 60]
    assert searched(parameters, "digits", "small", "train") == [20, 20]
    assert searched(parameters, "digits", "simclr", "train") == [30, 20]
    judged = {run.head: parameters.evaluate(run)["nearest"] for run in parameters.plan.runs}
    assert judged == dict.fromkeys(("temi", "few", "halved", "kmeans"), 20)
    config["neighbors"] = {"k": 5}
    parameters = Parameters(make_plan(config, []))
    assert searched(parameters, "digits", "pixels", "train") == [50, 5]
    assert searched(parameters, "digits", "pixels", "train+test") == [5, 60]
    assert parameters.evaluate(parameters.plan.runs[0])["nearest"] == 5


def test_results_of_a_run_that_the_experiment_does_not_have():
    config = yaml.safe_load("""
        datasets: {digits: {loader: digits}}
        backbones: {pixels: {method: pixels}}
        heads: {kmeans: {method: kmeans}}
        runs: [{dataset: digits, backbones: [pixels], heads: [kmeans], k: 10}]
    """)
    parameters = Parameters(make_plan(config, []))
    assert parameters.run("digits/pixels/kmeans/k10-held-out").k == 10
    with pytest.raises(DeepclustError, match="k11-held-out.*k10-held-out"):
        parameters.run("digits/pixels/kmeans/k11-held-out")
