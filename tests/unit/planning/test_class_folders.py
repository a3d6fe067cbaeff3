"""A folder of images whose subfolders are splits: the plan says so, with what was meant."""

import pytest
import yaml

from deepclust.planning.plan import ExperimentError, make_plan


def lines(tmp_path, *images, **options):
    for image in images:
        for number in range(30):
            path = tmp_path / image / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    options = {"loader": "folder", "path": ".", **options}
    options = {key: str(tmp_path / value) if "path" in key else value for key, value in options.items()}
    config = {
        "datasets": {"set": options},
        "backbones": {"pixels": {"method": "pixels", "image_size": 8}},
        "heads": {"kmeans": {"method": "kmeans"}},
        "runs": [{"dataset": "set", "backbones": ["pixels"], "heads": ["kmeans"], "k": 2}],
    }
    try:
        make_plan(config, [])
    except ExperimentError as error:
        return error.lines
    return []


MEANT = [
    (["train/cat", "val/cat"], "train", "val"),
    (["train/cat", "train/dog", "test/cat", "val/cat"], "train", "test"),
    (["Train", "Valid"], "Train", "Valid"),
    (["training/cat", "validation/cat"], "training", "validation"),
    (["train/images/cat", "test/images/cat"], "train/images", "test/images"),
    (["images/train/a", "images/val/a"], "images/train", "images/val"),
    (["images"], "images", None),
    (["images/cat", "images/dog"], "images", None),
    (["train/cat"], "train", None),
    (["val/cat"], "val", None),
]


@pytest.mark.parametrize(("folders", "path", "test_path"), MEANT)
def test_splits_are_no_classes(folders, path, test_path, tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "1.txt").touch()
    (line,) = lines(tmp_path, *folders)
    assert line.startswith(f"datasets.set.path: {tmp_path} holds ")
    meant = f"path: {tmp_path / path}" + (f"; test_path: {tmp_path / test_path}" if test_path else "")
    assert f"write {meant} (or" in line
    options = yaml.safe_load("{" + meant.replace("; ", ", ") + "}")
    assert lines(tmp_path, **options) == []


def test_the_test_path_may_hold_splits_too(tmp_path):
    (line,) = lines(tmp_path, "a/cat", "b/train/cat", "b/test/cat", path="a", test_path="b")
    assert line.startswith("datasets.set.test_path: ")
    assert f"write path: {tmp_path}/a; test_path: {tmp_path}/b/test (or" in line


@pytest.mark.parametrize("folders", [["cat", "dog"], ["train", "bus"], ["test/x", "cat"], ["cat/images", "dog/images"]])
def test_classes_are_classes(folders, tmp_path):
    assert lines(tmp_path, *folders) == []


def test_without_class_folders_there_are_no_classes(tmp_path):
    assert lines(tmp_path, "train", "val", class_folders=False) == []
