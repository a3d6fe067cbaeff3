"""The command `prepare`, as the workflow calls it."""

import json

import numpy as np
import pytest
from commands import run_command
from PIL import Image

from deepclust.core.files import read_json, sha256_file
from deepclust.core.fingerprint import code_digest
from deepclust.core.images import Images


def prepare(folder, *flags):
    data, labels = folder / "data", folder / "labels"
    files = {"images": data / "images.bin", "manifest": data / "images.json"}
    files |= {"labels": labels / "labels.npy", "classes": labels / "classes.json", "ids": labels / "ids.csv"}
    words = [word for name, path in files.items() for word in (f"--output.{name}", path)]
    return run_command("prepare", *words, *flags)


def fails(result, folder):
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1, result.stderr
    assert not [path for path in folder.rglob("*") if path.is_file() and path.parent.name in {"data", "labels"}]
    return result.stderr


def test_digits_with_provenance(tmp_path):
    digest = code_digest("prepare", ["deepclust.data.loaders.digits"])
    record = tmp_path / "data" / "images.provenance.json"
    flags = ["--code", digest, "--threads", 1, "--provenance", record, "--progress", tmp_path / "progress"]
    result = prepare(tmp_path, "--loader", "digits", "--split", "test", *flags)
    assert result.returncode == 0, result.stderr
    assert len(Images(tmp_path / "data")) == len(np.load(tmp_path / "labels" / "labels.npy")) == 450
    provenance = read_json(record)
    assert provenance["options"] == {"loader": "digits", "split": "test"}
    assert provenance["outputs"]["manifest"]["sha256"] == sha256_file(tmp_path / "data" / "images.json")
    assert set(provenance["outputs"]) == {"manifest", "labels", "classes", "ids"}


def test_a_folder_with_its_options(tmp_path):
    for name in ("cat/1.png", "dog/2.png"):
        (tmp_path / "pets" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2)).save(tmp_path / "pets" / name)
    (tmp_path / "pets" / "cat" / "3.png").write_bytes(b"broken")
    flags = ["--loader", "folder", "--split", "train", "--path", tmp_path / "pets", "--channels", 1]
    assert "3.png" in fails(prepare(tmp_path, *flags), tmp_path)
    result = prepare(tmp_path, *flags, "--on_error", "skip", "--class_folders", "false")
    assert result.returncode == 0, result.stderr
    assert Images(tmp_path / "data").channels == 1
    assert np.load(tmp_path / "labels" / "labels.npy").tolist() == [-1, -1]
    assert json.loads((tmp_path / "labels" / "classes.json").read_text()) == []


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--split", "train"], "loader"),
        (["--loader", "cifar11", "--split", "train"], "cifar11"),
        (["--loader", "digits", "--split", "validation"], "validation"),
        (["--loader", "digits", "--split", "train", "--channels", "1"], "channels"),
        (["--loader", "cifar10", "--split", "train"], "--input.archives"),
        (["--loader", "cifar10", "--split", "train", "--input.archives", "/nowhere/x.tar.gz"], "missing"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, flags, reason):
    assert reason in fails(prepare(tmp_path, *flags), tmp_path)
