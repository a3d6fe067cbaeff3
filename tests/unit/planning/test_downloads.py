import http.server
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from deepclust.core.fingerprint import SCRIPTS
from deepclust.planning.downloads import announcement, planned_downloads, readable, size_of
from deepclust.planning.layout import log_of


@pytest.fixture
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(200 if self.path == "/file" else 404)
            self.send_header("Content-Length", "170498071")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_the_first_source_that_tells(server, tmp_path):
    file = tmp_path / "file"
    file.write_bytes(bytes(1234))
    assert size_of([f"{server}/file"]) == 170498071
    assert size_of([str(tmp_path / "absent"), f"{server}/gone", str(file)]) == 1234
    assert size_of([f"{server}/gone"]) is None


def test_one_line_says_it_all(server, tmp_path):
    known, unknown = (tmp_path / "a.gz", [f"{server}/file"]), (tmp_path / "b.gz", [f"{server}/gone"])
    (line,) = announcement([known, unknown])
    assert "a.gz (170 MB), b.gz (?)" in line and "at least 170 MB in all" in line and "free" in line
    assert announcement([]) == []


RULES_FILE = str(SCRIPTS.parent / "rules" / "data.smk")


def job(rule, **options):
    output = SimpleNamespace(archive=options.pop("archive", None))
    named = SimpleNamespace(name=rule, snakefile=RULES_FILE, log=[log_of(rule)])
    return SimpleNamespace(rule=named, output=output, params=SimpleNamespace(options=options))


def test_weights_from_the_hub_are_named():
    jobs = [
        job("download", archive="resources/a.gz", sources=["/gone/a.gz"]),
        job("fetch_weights", weights="hf://timm/resnet50.a1_in1k", model="resnet50"),
        job("fetch_weights", weights=None, model="resnet50.a1_in1k"),
        job("fetch_weights", weights="https://example.org/w.pth", model="resnet50"),  # a file of rule `download`
        job("evaluate"),
    ]
    files, hub = planned_downloads(jobs)
    assert files == [(Path("resources/a.gz"), ["/gone/a.gz"])]
    assert hub == ["hf://timm/resnet50.a1_in1k"]
    (line,) = announcement([], hub)
    assert "hf://timm/resnet50.a1_in1k" in line


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1.7e8, "170 MB"), (5e12, "5 TB")]
)
def test_sizes(size, text):
    assert readable(size) == text
