"""A class means the same in every split of a dataset, in whatever order and spelling its sources name it."""

import json
import unicodedata

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from formats import picture

from deepclust.core import registry
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
from deepclust.data.classes import one_spelling
from deepclust.data.writing import write_split

NFC, NFD = (unicodedata.normalize(form, "Köln") for form in ("NFC", "NFD"))


def prepared(loader, folder, **options):
    """For each split: its labels by image, and the names of its classes."""
    module = registry.load("data.loaders", loader)
    found = {}
    for split in ("train", "test"):
        images, labels = folder / split / "i", folder / split / "l"
        write_split(module.read_split(module.Options(**options), split, []), images, labels, progress=Progress())
        names = [line.split(",", 1)[1] for line in (labels / "ids.csv").read_text().splitlines()[1:]]
        numbers = dict(zip(names, np.load(labels / "labels.npy").tolist(), strict=True))
        found[split] = numbers, json.loads((labels / "classes.json").read_text())
    return found


def parquet(path, labels, names=None):
    path.parent.mkdir(exist_ok=True)
    table = pa.table({"image": [picture() for _ in labels], "label": labels})
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}})} if names else {}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def of_parquet(folder):
    return prepared("parquet", folder, path=folder / "set", train="train*.parquet", test="test*.parquet")


def test_names_in_another_order_in_parquet_files(tmp_path):
    parquet(tmp_path / "set" / "train.parquet", [0, 1, 2], ["dog", "cat", "eel"])
    parquet(tmp_path / "set" / "test.parquet", [0, 1, 2, -1], ["cat", "eel", "dog"])
    found = of_parquet(tmp_path)
    assert found["train"] == ({"train.parquet/0": 0, "train.parquet/1": 1, "train.parquet/2": 2}, ["dog", "cat", "eel"])
    assert found["test"] == (
        {"test.parquet/0": 1, "test.parquet/1": 2, "test.parquet/2": 0, "test.parquet/3": -1},
        ["dog", "cat", "eel"],
    )


def test_names_that_only_some_parquet_files_have(tmp_path):
    parquet(tmp_path / "set" / "train0.parquet", [0, 1], ["dog", NFC])
    parquet(tmp_path / "set" / "train1.parquet", [1], [NFC, "bee"])
    parquet(tmp_path / "set" / "test.parquet", [0, 1, 2], ["ant", NFD, "dog"])
    found = of_parquet(tmp_path)
    assert found["train"][1] == found["test"][1] == ["dog", NFC, "bee", "ant"]
    assert sorted(found["train"][0].values()) == [0, 1, 2]
    assert found["test"][0] == {"test.parquet/0": 3, "test.parquet/1": 1, "test.parquet/2": 0}


def test_numbers_of_classes_that_others_name(tmp_path):
    parquet(tmp_path / "set" / "train.parquet", [0, 1], ["dog", "cat"])
    parquet(tmp_path / "set" / "test.parquet", [1])
    found = of_parquet(tmp_path)
    assert found["test"] == ({"test.parquet/0": 1}, ["dog", "cat"])
    parquet(tmp_path / "set" / "train1.parquet", [0], ["cat", "dog"])
    with pytest.raises(DeepclustError, match=r"test\.parquet .*names"):
        of_parquet(tmp_path)


@pytest.mark.parametrize("split", ["train", "test"])
def test_numbers_beyond_the_names_of_their_own_file(tmp_path, split):
    parquet(tmp_path / "set" / "train.parquet", [0, 1 + (split == "train")], ["dog", "cat"])
    parquet(tmp_path / "set" / "test.parquet", [0, 1 + (split == "test")], ["cat", "bee"])
    with pytest.raises(DeepclustError, match=f"{split}.parquet/1 has the label 2 of 2 classes"):
        of_parquet(tmp_path)


def test_the_same_names_stay_as_they_are(tmp_path):
    parquet(tmp_path / "set" / "train.parquet", [0, 1, 2], ["dog", NFD, "dog"])
    parquet(tmp_path / "set" / "test.parquet", [2], ["dog", NFD, "dog"])
    found = of_parquet(tmp_path)
    assert found["train"] == ({"train.parquet/0": 0, "train.parquet/1": 1, "train.parquet/2": 2}, ["dog", NFD, "dog"])
    assert found["test"] == ({"test.parquet/0": 2}, ["dog", NFD, "dog"])


def of_lists(folder, train, test):
    for split, labels in (("train", train), ("test", test)):
        rows = [f"{split}{number}.png,{label}\n" for number, label in enumerate(labels)]
        (folder / f"{split}.csv").write_text("path,label\n" + "".join(rows), encoding="utf-8")
        for number in range(len(labels)):
            (folder / f"{split}{number}.png").write_bytes(picture())
    return prepared("list", folder, path=folder / "train.csv", test_path=folder / "test.csv")


@pytest.mark.parametrize(
    ("train", "test", "classes", "numbers"),
    [
        (["0.0", "2.0", "10.0", ""], ["2", "0", "10"], ["0", "10", "2"], [2, 0, 1]),
        (["0", "2"], ["2.0", "1.0"], ["0", "1", "2"], [2, 1]),
        ([NFC, "Bonn"], [NFD, "Bonn"], ["Bonn", NFC], [1, 0]),
        (["0.0", "1.0"], ["1.0"], ["0.0", "1.0"], [1]),
        (["1.0", "1.5"], ["2.0"], ["1.0", "1.5", "2.0"], [2]),
        ([NFD], [NFD, "Bonn"], ["Bonn", NFD], [1, 0]),
        (["v1.0"], ["v1"], ["v1", "v1.0"], [0]),
        (["01"], ["1"], ["01", "1"], [1]),
    ],
)
def test_spellings_of_classes_in_lists(tmp_path, train, test, classes, numbers):
    found = of_lists(tmp_path, train, test)
    assert found["train"][1] == found["test"][1] == classes
    assert [found["test"][0][f"test{number}.png"] for number in range(len(test))] == numbers


def test_spellings_of_classes_in_one_list(tmp_path):
    (numbers, classes), _ = of_lists(tmp_path, ["1.0", "1", "7.0"], ["7.0"]).values()
    assert classes == ["1", "7"]
    assert numbers == {"train0.png": 0, "train1.png": 0, "train2.png": 1}


def test_spellings_of_class_folders(tmp_path):
    for name in (f"train/{NFC}/1", f"train/{NFD}/2", "train/Bonn/3", f"test/{NFD}/4"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / f"{name}.png").write_bytes(picture())
    found = prepared("folder", tmp_path, path=tmp_path / "in" / "train", test_path=tmp_path / "in" / "test")
    assert found["train"] == ({f"{NFC}/1.png": 1, f"{NFD}/2.png": 1, "Bonn/3.png": 0}, ["Bonn", NFC])
    assert found["test"] == ({f"{NFD}/4.png": 1}, ["Bonn", NFC])


def test_a_file_system_that_knows_no_unicode():
    assert one_spelling(["caf\udce9", "café"]) == {"caf\udce9": "caf\udce9", "café": "café"}
