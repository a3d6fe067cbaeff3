import copy
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deepclust.planning import pretrained
from deepclust.planning.parameters import Parameters
from deepclust.planning.plan import ExperimentError, make_plan

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = ROOT / "workflow" / "scripts"
SHIPPED = ROOT / "weights" / "cifar10-simclr-resnet10_w32"
BASE = yaml.safe_load("""
datasets:
  digits: {loader: digits}
backbones:
  fetched: {method: pretrained, preset: dino-vits16}
heads:
  kmeans: {method: kmeans}
runs:
  - {dataset: digits, backbones: [fetched], heads: [kmeans], k: 10}
""")

SAID = {"data": "CIFAR-10", "supervision": "self-supervised"}
OWN = {"model": "vit_small_patch16_224", "weights": "here.pth"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pth").write_bytes(b"weights")
    (tmp_path / "own").mkdir()
    for name in ("model.json", "model.safetensors"):
        shutil.copy(SHIPPED / name, tmp_path / "own")
    (tmp_path / "own#2").symlink_to("own")


def planned(**options):
    config = copy.deepcopy(BASE)
    config["backbones"]["fetched"] = {"method": "pretrained", **options}
    return Parameters(make_plan(config, []))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs 'preset'"),
        ({"preset": "dino-vits61"}, "preset: unknown preset 'dino-vits61'; did you mean 'dino-vits16'?"),
        ({"preset": "dino-vits16", "model": "resnet50"}, "model: preset dino-vits16 has its own"),
        ({"preset": "dino-vits16", "arguments": {"num_heads": 3}}, "arguments: preset dino-vits16 has its own"),
        ({"preset": "dino-vits16", "weights": "gone.pth"}, "weights: there is no file gone.pth"),
        ({"preset": "dino-vits16", "weights": "file:///gone.pth"}, "weights: there is no file file:///gone.pth"),
        ({"preset": "dino-vits16", "weights": "hf://dino"}, "no address on the hub"),
        ({"preset": "dino-vits16", "weights": "ftp://example.org/w.pth"}, "neither an address"),
        ({"preset": "dino-vits16", "mean": [0.5]}, "mean and std belong together"),
        ({"preset": "siglip-vitb16", "features": {"layers": [-2]}}, "features.layers: the network's own head"),
        (
            {"preset": "dino-resnet50", "features": {"pooling": "class"}},
            "features.pooling: resnet50 has no class",
        ),
        (
            {"preset": "siglip-vitb16", "pooling": "class+avg"},
            "pooling: vit_base_patch16_siglip_224 has no class",
        ),
        (
            {"preset": "dinov2-vits14", "features": {"image_size": 256}},
            "features.image_size: 256 is no multiple",
        ),
        (
            {"preset": "dinov2-vits14", "image_size": 10},
            "image_size: 10 is no multiple of the patches' 14 pixels: try",
        ),
        ({**OWN, "arguments": {"patch_size": 8}, "features": {"image_size": 36}}, "patches' 8 pixels: try 32 or 40"),
        ({"preset": "dino-vits16", "features": [1]}, "features: must be a mapping"),
        ({**OWN, "arguments": [1]}, "arguments: must be a mapping"),
        ({"model": "vit_smal_patch16_224.dino"}, "no network 'vit_smal_patch16_224'; did you mean 'vit_small_patch16"),
        ({"model": "vit_small_patch16_224"}, "does not say which weights: add a tag (vit_small_patch16_224."),
        ({"model": "vit_small_patch16_224.dinno"}, "did you mean 'vit_small_patch16_224.dino'?"),
        ({"model": "resnet50", "weights": "here.pth", "pooling": "mean"}, "pooling: must be one of class, avg"),
        ({"model": "resnet50", "weights": "here.pth", "sha256": "ab"}, "sha256: has a form that is not allowed"),
    ],
)
def test_mistakes_are_named_before_anything_runs(options, message):
    with pytest.raises(ExperimentError) as error:
        planned(**options)
    (line,) = error.value.lines
    assert line.startswith("backbones.fetched") and message in line


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "clip-vitb16", "features": {"pooling": "class", "image_size": 64}},
        {"preset": "dino-resnet50", "features": {"pooling": "avg", "image_size": 65}},
        {"preset": "dinov2-vits14", "features": {"image_size": 28}},
        {**OWN, "arguments": {"patch_size": 8}, "features": {"image_size": 40}},
    ],
)
def test_what_a_network_can_do_is_planned(options):
    assert planned(**options).extract_features("fetched")["image_size"] == options["features"]["image_size"]


def test_a_preset_becomes_the_options_of_the_command():
    options = planned(preset="mocov3-vits16").backbone("fetched")
    preset = pretrained.presets()["mocov3-vits16"]
    assert json.loads(options["arguments"]) == {"num_heads": 12} == preset["arguments"]
    for key in preset.keys() - pretrained.NOT_OPTIONS - {"arguments"}:
        assert options[key] == preset[key]
    assert options.keys().isdisjoint(pretrained.NOT_OPTIONS)


def test_what_is_given_replaces_a_presets_part():
    parameters = planned(preset="dino-vits16", weights="here.pth", crop_fraction=1.0)
    options = parameters.backbone("fetched")
    assert (options["weights"], options["crop_fraction"], options["pooling"]) == ("here.pth", 1.0, "class")
    assert parameters.weights_files("fetched") == {"file": "here.pth"}


def test_own_weights_have_their_own_layout():
    """A copy may hold the bare network: where its tensors stood in the publishers' file does not hold for it."""
    assert planned(preset="mocov3-resnet50").backbone("fetched")["prefix"] == "state_dict.module.base_encoder"
    assert planned(preset="mocov3-resnet50", weights="here.pth").backbone("fetched")["prefix"] is None
    chosen = planned(preset="mocov3-resnet50", weights="here.pth", prefix="encoder").backbone("fetched")
    assert chosen["prefix"] == "encoder"
    assert planned(preset="mocov3-resnet50", prefix="").backbone("fetched")["prefix"] == ""


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"preset": "dino-vits16"}, {}),
        ({"model": "vit_small_patch16_224.dino"}, {}),
        ({"model": "resnet50", "weights": "hf://team/net/w.bin"}, {}),
        ({"weights": "hf://team/net@main/model.json", **SAID}, {}),
        ({"model": "resnet50", "weights": "here.pth"}, {"file": "here.pth"}),
        ({"weights": "own/model.json"}, {"file": "own/model.json", "tensors": "own/model.safetensors"}),
        ({"weights": "own#2/model.json"}, {"file": "own#2/model.json", "tensors": "own#2/model.safetensors"}),
    ],
)
def test_where_weights_are_read_from(options, files):
    assert planned(**options).weights_files("fetched") == files


def test_weights_of_the_project_are_found_from_any_folder(tmp_path):
    """Their name in tables does not depend on where the project lies; a file of that name here comes first."""
    name = f"weights/{SHIPPED.name}/model.json"
    parameters = planned(weights=name)
    files = {"file": str(SHIPPED / "model.json"), "tensors": str(SHIPPED / "model.safetensors")}
    assert parameters.weights_files("fetched") == files
    assert parameters.backbone("fetched")["weights"] == name
    assert "cifar10" in parameters.trained_on("fetched")
    shutil.copytree(SHIPPED, tmp_path / "weights" / SHIPPED.name)
    assert planned(weights=name).weights_files("fetched")["file"] == name


def test_weights_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert planned(model="resnet50", weights="~/here.pth").weights_files("fetched") == {
        "file": str(tmp_path / "here.pth")
    }
    with pytest.raises(ExperimentError, match=rf"there is no file {tmp_path}/gone.pth$"):
        planned(model="resnet50", weights="~/gone.pth")


def test_weights_on_a_server_are_downloaded_once():
    address, sha256 = "https://example.org/a%20b/w.pth?x=1", "0" * 64
    parameters = planned(model="resnet50", weights=address)
    file = parameters.weights_downloads("fetched")["file"]
    assert file.endswith("/w.pth")
    assert parameters.download(file) == {
        "md5": None,
        "sha256": "any",
        "sources": [address],
    }
    known = planned(model="resnet50", weights=address, sha256=sha256)
    key = known.weights_downloads("fetched")["file"]
    assert known.download(key)["sha256"] == sha256
    assert known.weights_downloads("fetched")["file"] != file


@pytest.mark.parametrize("name", ["my%20model%20(final).pth", "$(touch%20here).pth", "a;b&c'd\"{e}.pth"])
def test_names_on_servers_need_no_quotes_in_a_shell(name):
    file = planned(model="resnet50", weights=f"https://example.org/{name}").weights_downloads("fetched")["file"]
    assert shlex.quote(file) == file and file.endswith(".pth")
    assert "{" not in file


def test_of_an_own_backbone_on_a_server_both_files_are_downloaded():
    parameters = planned(weights="https://example.org/a%20b/model.json?x=1", sha256="0" * 64, **SAID)
    files = parameters.weights_downloads("fetched")
    downloads = {part: parameters.download(path) for part, path in files.items()}
    assert downloads["file"]["sources"] == ["https://example.org/a%20b/model.json?x=1"]
    assert downloads["tensors"]["sources"] == ["https://example.org/a%20b/model.safetensors?x=1"]
    assert (downloads["file"]["sha256"], downloads["tensors"]["sha256"]) == ("0" * 64, "any")
    assert files["tensors"].endswith("/model.safetensors")


@pytest.mark.parametrize("weights", ["own/model.json", "file://{here}/own/model.json"])
def test_an_own_backbone_says_itself_what_it_saw(weights, tmp_path):
    weights = weights.format(here=tmp_path)
    assert planned(weights=weights).trained_on("fetched") == "cifar10 (train), self-supervised"
    assert planned(weights=weights, data="CIFAR-10").trained_on("fetched") == "CIFAR-10, self-supervised"
    assert planned(weights="hf://a/b/model.json", **SAID).trained_on("fetched") == "CIFAR-10, self-supervised"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "pooling: own/model.json says itself how it is used: features has what can be changed"),
        ({"preset": "dino-vits16"}, "preset: own/model.json says itself"),
        ({"model": "resnet50"}, "model: own/model.json says itself"),
        ({"weights": "gone/model.json"}, "weights: there is no file gone/model.json"),
        ({"weights": "alone/model.json"}, "weights: there is no file alone/model.safetensors"),
        ({"weights": "bad/model.json"}, "weights: bad/model.json lacks image_size"),
        ({"weights": "odd/model.json"}, "weights: odd/model.json has no splits"),
        ({"weights": "hf://own/model.json"}, "no address on the hub"),
        ({"features": {"pooling": "class"}}, "features.pooling: resnet10_w32 has no class token"),
        ({"weights": "own/other.json"}, "needs 'preset'"),
        (
            {"weights": "hf://a/b/model.json"},
            "hf://a/b/model.json says is not known before it is fetched: give",
        ),
        ({"weights": "https://a.org/model.json", "data": "CIFAR-10"}, "is not known before it is fetched: give data"),
    ],
)
def test_mistakes_with_own_backbones(options, message, tmp_path):
    for name in ("bad", "alone"):
        (tmp_path / name).mkdir()
    (tmp_path / "alone" / "model.json").write_bytes((tmp_path / "own" / "model.json").read_bytes())
    (tmp_path / "bad" / "model.json").write_text('{"architecture": {}}')
    (tmp_path / "bad" / "model.safetensors").touch()
    shutil.copytree(tmp_path / "own", tmp_path / "odd")
    odd = json.loads((SHIPPED / "model.json").read_text()) | {"splits": 5}
    (tmp_path / "odd" / "model.json").write_text(json.dumps(odd))
    (tmp_path / "own" / "other.json").touch()
    with pytest.raises(ExperimentError) as error:
        planned(**{"weights": "own/model.json", **options})
    (line,) = error.value.lines
    assert line.startswith("backbones.fetched") and message in line


def test_tables_can_tell_what_a_backbone_saw():
    assert planned(preset="dino-vits16").trained_on("fetched") == "ImageNet-1k, self-supervised"
    assert planned(preset="siglip-vitb16").trained_on("fetched") == "WebLI, language-supervised"
    assert planned(model="vit_small_patch16_224.dino").trained_on("fetched") == "ImageNet-1k, self-supervised"
    assert planned(model="vit_small_patch16_224.dino", data="other").trained_on("fetched").startswith("other, self")
    unknown = planned(model="resnet50", weights="here.pth")
    assert unknown.trained_on("fetched") == "data not stated, supervision not stated"
    config = copy.deepcopy(BASE)
    config["backbones"] = {
        "fetched": {"method": "simclr", "dataset": "digits"},
        "later": {"method": "simclr", "dataset": "digits", "splits": ["train", "test"], "start_from": "fetched"},
        "pixels": {"method": "pixels"},
    }
    parameters = Parameters(make_plan(config, []))
    here = "digits (train), self-supervised, here"
    assert parameters.trained_on("pixels") == "nothing"
    assert parameters.trained_on("fetched") == here
    assert parameters.trained_on("later") == f"{here}; digits (train+test), self-supervised, here"
    assert parameters.evaluate(parameters.plan.runs[0])["trained_on"] == [here]


def test_only_a_used_presets_change_counts(monkeypatch):
    before = repr(planned(preset="dino-vits16").backbone("fetched"))
    changed = copy.deepcopy(pretrained.presets())
    changed["dino-vitb16"]["crop_fraction"] = 0.5
    changed["dino-vits16"]["license"] = "another"
    monkeypatch.setattr(pretrained, "presets", lambda: changed)
    assert repr(planned(preset="dino-vits16").backbone("fetched")) == before
    changed["dino-vits16"]["crop_fraction"] = 0.5
    assert repr(planned(preset="dino-vits16").backbone("fetched")) != before


def test_planning_needs_neither_torch_nor_timm():
    code = (
        "import sys; from deepclust.planning import pretrained;"
        "print(list(pretrained.check_pretrained('x', {'model': 'resnet51', 'preset': None})),"
        "sorted({'torch', 'timm', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True)
    assert "did you mean 'resnet" in done.stdout and done.stdout.strip().endswith("[]")


def test_a_missing_backbone_that_another_starts_from_is_one_line():
    config = copy.deepcopy(BASE)
    crops = {"test_time_augmentation": "five-crop"}
    config["backbones"]["fetched"] = {"method": "pretrained", "weights": "gone/model.json", "features": crops}
    config["backbones"]["later"] = {"method": "simclr", "dataset": "digits", "start_from": "fetched"}
    with pytest.raises(ExperimentError) as error:
        make_plan(config, [])
    assert error.value.lines == [f"backbones.fetched.weights: there is no file gone/model.json (in {Path.cwd()})"]


def test_a_damaged_backbone_that_another_starts_from_is_one_line(tmp_path):
    described = json.loads((SHIPPED / "model.json").read_text()) | {"architecture": {}}
    (tmp_path / "own" / "model.json").write_text(json.dumps(described))
    config = copy.deepcopy(BASE)
    config["backbones"]["fetched"] = {"method": "pretrained", "weights": "own/model.json"}
    config["backbones"]["later"] = {"method": "simclr", "dataset": "digits", "start_from": "fetched"}
    with pytest.raises(ExperimentError) as error:
        make_plan(config, [])
    (line,) = error.value.lines
    assert line.startswith("backbones.fetched.weights: own/model.json has no architecture")


def test_names_of_downloads_leave_room_for_files_beside_them():
    address = f"https://server.org/{'ü' * 100}end.pth"
    name = pretrained.file_name(address)
    assert name.endswith("üend.pth") and 190 < len(name.encode()) <= 200
    assert pretrained.file_name("https://server.org/weights/a%20b.pth?x=1") == "a_b.pth"


@pytest.mark.parametrize("size", [1000, 10**6 + 1])
def test_other_weights_at_a_path_are_noticed_whatever_their_time(tmp_path, size):
    file = tmp_path / "here.pth"
    file.write_bytes(bytes(size))
    states = [planned(**OWN).weights_states("fetched")]
    earlier = tmp_path / "earlier.pth"
    earlier.write_bytes(bytes([1]) * size)
    os.utime(earlier, (1, 1))
    earlier.replace(file)
    states.append(planned(**OWN).weights_states("fetched"))
    assert states[0] != states[1] and len(states[0]) == len(states[1]) == 1


def test_a_copy_of_small_weights_is_the_same(tmp_path):
    before = planned(**OWN).weights_states("fetched")
    os.utime(tmp_path / "here.pth", (1, 1))
    assert planned(**OWN).weights_states("fetched") == before


def test_weights_whose_checksum_is_known_need_no_look_at_them(tmp_path):
    assert planned(**OWN, sha256="0" * 64).weights_states("fetched") == []
    assert planned(preset="dino-vits16").weights_states("fetched") == []
    assert planned(weights="https://example.org/model.json", **SAID).weights_states("fetched") == []
    before = planned(weights="own/model.json").weights_states("fetched")
    os.utime(tmp_path / "own" / "model.safetensors", (1, 1))  # the description knows what it holds
    assert planned(weights="own/model.json").weights_states("fetched") == before
    description = tmp_path / "own" / "model.json"
    description.write_text(description.read_text().replace(": true", ": false").replace("simclr", "other"))
    assert planned(weights="own/model.json").weights_states("fetched") != before
