import pytest

from deepclust.core.errors import DeepclustError
from deepclust.planning import frozen

CONFIG = {"datasets": {"digits": {"loader": "digits", "path": None}}, "seeds": [0, 1]}
PARTS = {"features.npy": ["parts/1-of-1"]}


@pytest.fixture(autouse=True)
def no_plan(monkeypatch):
    monkeypatch.setenv(frozen.VARIABLE, "")


def test_what_was_frozen_comes_back(tmp_path):
    frozen.freeze(CONFIG, {"cluster deepclust.heads.kmeans": "abc"}, PARTS, tmp_path / "plans")
    frozen.freeze(CONFIG, {"cluster deepclust.heads.kmeans": "abc"}, PARTS, tmp_path / "plans")
    found = frozen.thaw()
    assert found is not None and found.config == CONFIG
    assert found.code == {"cluster deepclust.heads.kmeans": "abc"} and found.parts == PARTS
    assert len(list((tmp_path / "plans").iterdir())) == 1, "the same plan is one file"


def test_no_plan():
    assert frozen.thaw() is None


@pytest.mark.parametrize("text", ["", "{}", "[1]", "{"])
def test_a_plan_that_cannot_be_read(tmp_path, monkeypatch, text):
    path = tmp_path / "plan.json"
    if text:
        path.write_text(text)
    monkeypatch.setenv(frozen.VARIABLE, str(path))
    with pytest.raises(DeepclustError, match="run snakemake again"):
        frozen.thaw()
