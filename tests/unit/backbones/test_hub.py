"""The real client against a server on this machine; each case in a process of its own, as the client reads its
settings when it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepclust.core.addresses import HubFile, hub_file
from deepclust.core.errors import DeepclustError
from hub_server import TOKEN, Repository

SCRIPTS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"
FETCH = """
import sys, time
from deepclust.core.addresses import hub_file
from deepclust.backbones.hub import fetch_from_hub
from deepclust.core.errors import DeepclustError
from deepclust.core.progress import Progress
time.sleep = lambda seconds: None  # the client waits between attempts
try:
    print(*fetch_from_hub(hub_file(sys.argv[1]), Progress()))
except DeepclustError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def fetch(hub, tmp_path):
    """Fetches an address; returns content and commit, or the error."""

    def run(address, **settings):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        environment |= {"PYTHONPATH": str(SCRIPTS), **hub.environment(tmp_path / "cache"), **settings}
        done = subprocess.run([sys.executable, "-c", FETCH, address], capture_output=True, text=True, env=environment)
        if done.returncode == 0:
            path, commit = done.stdout.split()
            return Path(path).read_bytes(), commit
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr.strip().splitlines()[-1]

    return run


@pytest.fixture
def repository(hub):
    hub.repositories["team/vit"] = repository = Repository()
    repository.commit(model__safetensors=b"first" * 1000)
    return repository


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://timm/vit.dino", HubFile("timm/vit.dino", "model.safetensors", None)),
        ("hf://timm/vit.dino/a/b.pth", HubFile("timm/vit.dino", "a/b.pth", None)),
        ("hf://o/n@v1.0/f.bin", HubFile("o/n", "f.bin", "v1.0")),
        ("hf://o/n@main", HubFile("o/n", "model.safetensors", "main")),
        ("https://example.org/f.pth", None),
        ("weights/f.pth", None),
    ],
)
def test_addresses(address, expected):
    assert hub_file(address) == expected


@pytest.mark.parametrize("address", ["hf://", "hf://name", "hf://a b/c", "hf:///x/y"])
def test_addresses_that_are_none(address):
    with pytest.raises(DeepclustError, match="hf://owner/name"):
        hub_file(address)


def test_downloads_once_and_works_from_the_cache(hub, repository, fetch):
    content, commit = fetch("hf://team/vit")
    assert content == b"first" * 1000
    assert commit == list(repository.commits)[-1]
    assert sum(line.startswith("GET /storage") for line in hub.requests) == 1
    assert fetch("hf://team/vit") == (content, commit)
    assert sum(line.startswith("GET /storage") for line in hub.requests) == 1
    asked = len(hub.requests)
    assert fetch("hf://team/vit", HF_HUB_OFFLINE="1") == (content, commit)
    assert fetch(f"hf://team/vit@{commit}") == (content, commit)
    assert len(hub.requests) == asked
    assert fetch("hf://team/vit", HF_ENDPOINT="http://127.0.0.1:9") == (content, commit)


def test_revisions(repository, fetch):
    first = next(iter(repository.commits))
    second = repository.commit(model__safetensors=b"second", other__bin=b"other")
    assert fetch("hf://team/vit") == (b"second", second)
    assert fetch(f"hf://team/vit@{first}") == (b"first" * 1000, first)
    assert fetch("hf://team/vit/other.bin") == (b"other", second)


def test_folders_of_a_repository_may_have_the_names_of_the_caches(repository, fetch):
    commit = repository.commit(**{"snapshots/epoch-10/model.safetensors": b"tenth"})
    address = "snapshots/epoch-10/model.safetensors"
    assert fetch(f"hf://team/vit/{address}") == (b"tenth", commit)
    assert fetch(f"hf://team/vit@{commit}/{address}", HF_HUB_OFFLINE="1") == (b"tenth", commit)


def test_a_renamed_repository_is_followed(hub, repository, fetch):
    hub.repositories["old/vit"] = Repository(renamed="team/vit")
    assert fetch("hf://old/vit")[0] == b"first" * 1000


def test_gated_repositories_need_a_token(repository, fetch):
    repository.gated = True
    assert "gated: accept its terms at http" in fetch("hf://team/vit")
    assert "HF_TOKEN" in fetch("hf://team/vit", HF_TOKEN="hf_wrong")
    assert fetch("hf://team/vit", HF_TOKEN=TOKEN)[0] == b"first" * 1000


@pytest.mark.parametrize(
    ("address", "settings", "message"),
    [
        ("hf://team/nothing", {}, "no repository team/nothing"),
        ("hf://team/vit@v9", {}, "no revision v9"),
        ("hf://team/vit/weights.bin", {}, "it has model.safetensors"),
        ("hf://team/vit", {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE forbids"),
        ("hf://team/vit", {"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot reach http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_had_is_explained(repository, fetch, address, settings, message):
    assert message in fetch(address, **settings)


@pytest.mark.parametrize(("status", "message"), [(403, "check the token"), (503, "HTTP 503.*try again later")])
def test_refusals_are_explained(repository, fetch, status, message):
    import re

    repository.status = status
    assert re.search(message, fetch("hf://team/vit"))


def test_damage_on_the_way_is_noticed_and_not_kept(repository, fetch):
    repository.damage = True
    assert "arrived damaged" in fetch("hf://team/vit")
    repository.damage = False
    assert fetch("hf://team/vit")[0] == b"first" * 1000


def test_damage_in_the_cache_is_noticed_and_mended(repository, fetch, tmp_path):
    fetch("hf://team/vit")
    (blob,) = (tmp_path / "cache").glob("hub/models--team--vit/blobs/*")
    blob.write_bytes(b"other" * 1000)
    assert "damaged" in fetch("hf://team/vit", HF_HUB_OFFLINE="1")
    assert fetch("hf://team/vit")[0] == b"first" * 1000
