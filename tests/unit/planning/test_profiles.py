"""The profiles hold what their comments and the documentation promise."""

from pathlib import Path

import yaml

from deepclust.core.fingerprint import SCRIPTS, reachable_modules
from deepclust.planning.plan import Schema

PROFILES = Path(__file__).resolve().parents[3] / "profiles"


def set_resources(name, edit=lambda text: text):
    return yaml.safe_load(edit((PROFILES / name / "profile.yaml").read_text()))["set-resources"]


def rules_on_a_gpu():
    """The scripts, named like their rules, that choose a device themselves or by what they can load."""
    definitions = Schema().definitions
    heads = [each for name, each in definitions.items() if name.startswith("head.") and "x-module" in each]
    loaded = {"cluster": [each["x-module"] for each in heads]}
    for script in SCRIPTS.glob("*.py"):
        modules = reachable_modules(script.stem, loaded.get(script.stem, ())) - {"deepclust.core.device"}
        paths = [script, *(SCRIPTS.joinpath(*module.split(".")).with_suffix(".py") for module in modules)]
        if any("choose_device" in path.read_text() for path in paths if path.exists()):
            yield script.stem


def test_on_one_machine_all_that_compute_on_the_gpu_take_it():
    """Otherwise two jobs would share its memory by accident."""
    resources = set_resources("local")
    rules = set(rules_on_a_gpu())
    assert rules == {rule for rule, wanted in resources.items() if wanted.get("gpu") == 1}
    assert {"pretrain", "extract_features", "cluster", "choose_k"} <= rules
    assert yaml.safe_load((PROFILES / "local" / "profile.yaml").read_text())["resources"] == ["gpu=1"]


def test_several_gpus_for_pretraining_only():
    """As docs/hpc.md says: one line beside `runtime`, which outdoes what all GPU rules share."""
    before = set_resources("slurm")
    after = set_resources("slurm", lambda text: text.replace('# gres: "gpu:4"', 'gres: "gpu:4"'))
    assert before["pretrain"]["gres"] == "gpu:1" and after["pretrain"]["gres"] == "gpu:4"
    del before["pretrain"]["gres"], after["pretrain"]["gres"]
    assert before == after


def test_a_gpu_for_heads():
    """As docs/hpc.md says: two marks to remove. Time and memory of heads stay their own."""
    before = set_resources("slurm")
    after = set_resources("slurm", lambda text: text.replace("# <<: *gpu", "<<: *gpu"))
    for rule in ("cluster", "choose_k"):
        assert "gres" not in before[rule] and after[rule] == before[rule] | {"gres": before["pretrain"]["gres"]}
    assert {rule for rule in after if after[rule] != before[rule]} == {"cluster", "choose_k"}
