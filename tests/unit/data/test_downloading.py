"""Downloads, against a real server on this machine that fails in every way a server can."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepclust.core.errors import DeepclustError
from deepclust.core.files import read_json, sha256_file
from deepclust.core.fingerprint import SCRIPTS
from deepclust.core.progress import Progress
from deepclust.data.checksums import Checksum
from deepclust.data.downloading import Patience, download

CONTENT = random.Random(0).randbytes(200_000)
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())
QUICK = Patience(attempts=3, wait=0.001, connect=5, read=5)


class Server(ThreadingHTTPServer):
    """Serves `content` at every path; `troubles` says what goes wrong with the next requests.

    A trouble is a status code, a number of bytes after which the connection drops (`("drop", n)`) or no more comes
    (`("stall", n)`), or `("redirect", path)`.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.released = threading.Event()
        self.reset()

    def reset(self, content=CONTENT, **options):
        self.content = content
        self.ranges = options.get("ranges", True)
        self.conditions = options.get("conditions", True)
        self.etag = f'"{hashlib.md5(content).hexdigest()}"'
        self.troubles = list(options.get("troubles", []))
        self.requests = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/set.tar.gz"

    def handle_error(self, request, client_address):
        pass  # clients hang up


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, headers = self.server, self.headers
        server.requests.append(dict(headers))
        kind, value = "fine", 0
        if server.troubles:
            trouble = server.troubles.pop(0)
            kind, value = trouble if isinstance(trouble, tuple) else ("status", trouble)
        if kind in {"status", "redirect"}:
            self.send_response(302 if kind == "redirect" else value)
            self.send_header(
                "Location" if kind == "redirect" else "Retry-After", str(value) if kind == "redirect" else "0"
            )
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.answer(headers)
        self.wfile.write(body if kind == "fine" else body[:value])
        self.wfile.flush()
        if kind == "stall":
            server.released.wait(30)

    def answer(self, headers):
        """Send the head of the answer; return its body."""
        server, total = self.server, len(self.server.content)
        changed = server.conditions and headers.get("If-Range", server.etag) != server.etag
        if not server.ranges or "Range" not in headers or changed:
            self.send_response(200)
            body = server.content
        else:
            start = int(headers["Range"].removeprefix("bytes=").removesuffix("-"))
            body = server.content[start:]
            self.send_response(206 if body else 416)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}" if body else f"bytes */{total}")
        if server.conditions:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body


@pytest.fixture(scope="module")
def running_server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server(running_server, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running_server.reset()
    return running_server


def get(sources, target, checksum=SHA256, patience=QUICK):
    return download(sources, target, checksum, Progress(), patience)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download(server, tmp_path):
    target = tmp_path / "downloads" / "key" / "set.tar.gz"
    assert get([server.url], target) == server.url
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["set.tar.gz"]
    assert "Range" not in server.requests[0]


def test_md5(server, tmp_path):
    get([server.url], tmp_path / "set", Checksum("md5", hashlib.md5(CONTENT).hexdigest()))
    assert (tmp_path / "set").read_bytes() == CONTENT


def test_a_dropped_connection_is_resumed(server, tmp_path):
    server.troubles = [("drop", 90_000), ("drop", 30_000)]
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=90000-", "bytes=120000-"]
    assert server.requests[1]["If-Range"] == server.etag


def test_a_later_process_resumes(server, tmp_path):
    server.troubles = [("stall", 90_000)]
    command = [sys.executable, str(SCRIPTS / "download.py"), "--sources", f'["{server.url}"]']
    command += ["--sha256", SHA256.value, "--output.archive", str(tmp_path / "set")]
    process = subprocess.Popen(command)
    part = tmp_path / "set.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size == 90_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.released.set()
    assert names_in(tmp_path) == ["set.part", "set.part.json"]

    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=90000-"
    assert names_in(tmp_path) == ["set"]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 120_000), max_size=4), st.booleans(), st.booleans())
def test_any_drops(running_server, tmp_path_factory, drops, ranges, conditions):
    running_server.reset(troubles=[("drop", n) for n in drops], ranges=ranges, conditions=conditions)
    target = tmp_path_factory.mktemp("drops") / "set"
    get([running_server.url], target, patience=Patience(attempts=9, wait=0))
    assert target.read_bytes() == CONTENT


def test_attempts_with_progress_are_not_counted(server, tmp_path):
    content = random.Random(1).randbytes(8 << 20)
    server.reset(content, troubles=[("drop", 1_500_000)] * 5)
    get([server.url], tmp_path / "set", Checksum("sha256", hashlib.sha256(content).hexdigest()))
    assert (tmp_path / "set").read_bytes() == content


def test_a_server_that_cannot_resume(server, tmp_path):
    server.reset(ranges=False, troubles=[("drop", 90_000)])
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT


@pytest.mark.parametrize("checksum", [SHA256, None], ids=["checksum", "any"])
def test_a_file_that_changed_meanwhile(server, tmp_path, checksum):
    server.reset(bytes(200_000), troubles=[("drop", 40_000)] * 3)
    with pytest.raises(DeepclustError):
        get([server.url], tmp_path / "set", checksum)
    server.reset()
    get([server.url], tmp_path / "set", checksum)
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == ["bytes=120000-"]


def test_a_file_that_changed_unnoticed(server, tmp_path):
    server.reset(bytes(200_000), conditions=False, troubles=[("drop", 40_000)] * 3)
    with pytest.raises(DeepclustError):
        get([server.url], tmp_path / "set")
    server.reset(conditions=False)
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == ["bytes=120000-", None]


def test_without_a_checksum_only_the_same_version_is_continued(server, tmp_path):
    server.reset(conditions=False, troubles=[("drop", 90_000)])
    get([server.url], tmp_path / "set", None)
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert "Range" not in server.requests[1]


def test_all_had_arrived_but_the_move(server, tmp_path):
    (tmp_path / "set.part").write_bytes(CONTENT)
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert [request["Range"] for request in server.requests] == ["bytes=200000-"]


def test_a_partial_file_that_is_too_long(server, tmp_path):
    (tmp_path / "set.part").write_bytes(CONTENT + b"more")
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_busy_server_is_asked_again(server, tmp_path, status):
    server.troubles = [status, status]
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_file_that_is_not_there_is_sought_elsewhere_at_once(server, tmp_path, status):
    server.troubles = [status]
    other = server.url.replace("set", "mirror")
    assert get([server.url, other], tmp_path / "set") == other
    assert len(server.requests) == 2


def test_a_source_is_given_up(server, tmp_path):
    server.troubles = [503] * 3
    (tmp_path / "copy").write_bytes(CONTENT)
    assert get([server.url, str(tmp_path / "copy")], tmp_path / "set") == str(tmp_path / "copy")
    assert len(server.requests) == 3


def test_a_server_that_falls_silent(server, tmp_path):
    server.released.clear()
    server.troubles = [("stall", 90_000)]
    get([server.url], tmp_path / "set", patience=Patience(attempts=2, wait=0, read=2))
    server.released.set()
    assert (tmp_path / "set").read_bytes() == CONTENT


def test_a_redirection(server, tmp_path):
    server.troubles = [("drop", 90_000), ("redirect", "/elsewhere")]
    get([server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None, "bytes=90000-", "bytes=90000-"]


def test_a_wrong_checksum_is_sought_elsewhere(server, tmp_path):
    (tmp_path / "wrong").write_bytes(b"something else")
    get([str(tmp_path / "wrong"), server.url], tmp_path / "set")
    assert (tmp_path / "set").read_bytes() == CONTENT


def test_wrong_checksums_everywhere(server, tmp_path):
    folder = tmp_path / "downloads"
    wrong = Checksum("sha256", "0" * 64)
    with pytest.raises(DeepclustError, match=f"sha256 is {SHA256.value}, expected {wrong.value}") as error:
        get([server.url, server.url.replace("set", "mirror")], folder / "set", wrong)
    assert "mirror" in str(error.value) and "\n" not in str(error.value)
    assert len(server.requests) == 2
    assert names_in(folder) == []


def test_a_partial_file_is_continued_from_another_source(server, tmp_path):
    server.troubles = [("drop", 90_000), 404]
    other = server.url.replace("set", "mirror")
    assert get([server.url, other], tmp_path / "set") == other
    assert (tmp_path / "set").read_bytes() == CONTENT
    assert server.requests[2]["Range"] == "bytes=90000-" and "If-Range" not in server.requests[2]


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>\n<p>Log in</p>", b"\n  <HTML lang='en'>", b"\xef\xbb\xbf<html>"])
def test_a_web_page_is_not_the_file(server, tmp_path, page):
    """Where no checksum tells, the page of a server in trouble must not pass for the file."""
    server.reset(page)
    folder = tmp_path / "downloads"
    with pytest.raises(DeepclustError, match="web page"):
        get([server.url], folder / "set", None)
    assert len(server.requests) == 1 and names_in(folder) == []
    (tmp_path / "copy").write_bytes(CONTENT)
    assert get([server.url, str(tmp_path / "copy")], folder / "set", None) == str(tmp_path / "copy")
    get([server.url], tmp_path / "page", Checksum("sha256", hashlib.sha256(page).hexdigest()))  # it is what is wanted
    assert (tmp_path / "page").read_bytes() == page


@pytest.mark.parametrize("checksum", [SHA256, None], ids=["checksum", "any"])
def test_an_empty_answer(server, tmp_path, checksum):
    server.reset(b"")
    with pytest.raises(DeepclustError, match="wrong checksum" if checksum else "empty"):
        get([server.url], tmp_path / "downloads" / "set", checksum)
    assert names_in(tmp_path / "downloads") == []


def test_files_on_this_machine(tmp_path):
    (tmp_path / "a b,c").write_bytes(CONTENT)
    for source in (str(tmp_path / "a b,c"), (tmp_path / "a b,c").as_uri()):
        assert get([source], tmp_path / "set") == source
        assert (tmp_path / "set").read_bytes() == CONTENT
        (tmp_path / "set").unlink()


def test_nobody_has_it(tmp_path):
    sources = [str(tmp_path / "none"), str(tmp_path), "ftp://127.0.0.1/x", "http://", "http://127.0.0.1:1/x"]
    with pytest.raises(DeepclustError) as error:
        get(sources, tmp_path / "downloads" / "set")
    for source in sources:
        assert f"{source}: " in str(error.value)
    assert not (tmp_path / "downloads" / "set").exists()


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "copy").write_bytes(CONTENT)
    return tmp_path / "copy"


@pytest.mark.parametrize("local", [False, True])
def test_a_full_disk(server, copy, small_disk, local):
    source = str(copy) if local else server.url
    with pytest.raises(DeepclustError, match="no space left"):
        get([source, source], small_disk / "set")
    assert not (small_disk / "set").exists()
    assert len(server.requests) == (not local)


def run(tmp_path, *flags):
    command = [sys.executable, str(SCRIPTS / "download.py"), "--output.archive", str(tmp_path / "set"), *flags]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_PROXY": "127.0.0.1"})


def test_the_command_needs_a_checksum_or_permission(tmp_path):
    (tmp_path / "copy").write_bytes(CONTENT)
    sources = ["--sources", f'["{tmp_path / "none"}", "{tmp_path / "copy"}"]']
    result = run(tmp_path, *sources)
    assert result.returncode == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    result = run(tmp_path, *sources, "--sha256", "any", "--provenance", str(tmp_path / "provenance.json"))
    assert result.returncode == 0, result.stderr
    provenance = read_json(tmp_path / "provenance.json")
    assert provenance["options"]["sha256"] == "any"
    assert provenance["options"]["used"] == str(tmp_path / "copy")
    assert provenance["outputs"]["archive"]["sha256"] == SHA256.value == sha256_file(tmp_path / "set")


def test_the_command_prefers_sha256(tmp_path):
    (tmp_path / "copy").write_bytes(CONTENT)
    sources = ["--sources", f'["{tmp_path / "copy"}"]']
    result = run(tmp_path, *sources, "--md5", "0" * 32)
    assert result.returncode == 1 and "md5 is" in result.stderr
    assert run(tmp_path, *sources, "--md5", "0" * 32, "--sha256", SHA256.value).returncode == 0
