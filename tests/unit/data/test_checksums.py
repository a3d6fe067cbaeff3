import hashlib
import subprocess
import sys

import pytest

from deepclust.core.errors import DeepclustError
from deepclust.core.fingerprint import SCRIPTS
from deepclust.data.checksums import read_checksum, record_checksum


def test_a_pin_is_what_sha256sum_writes(tmp_path):
    (tmp_path / "x.tgz").write_bytes(b"content")
    value = record_checksum(tmp_path / "pins" / "x.tgz.sha256", tmp_path / "x.tgz")
    assert value == hashlib.sha256(b"content").hexdigest()
    assert read_checksum(tmp_path / "pins" / "x.tgz.sha256").value == value
    command = ["sha256sum", "--check", str(tmp_path / "pins" / "x.tgz.sha256")]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_no_pin_yet_and_no_pin_at_all(tmp_path):
    assert read_checksum(tmp_path / "x") is None
    for content in ("", "no checksum\n", "0" * 63 + "\n"):
        (tmp_path / "x").write_text(content)
        with pytest.raises(DeepclustError, match="no SHA-256"):
            read_checksum(tmp_path / "x")
    with pytest.raises(DeepclustError, match="cannot be read"):
        read_checksum(tmp_path)


def test_the_first_download_is_required_of_every_later_one(tmp_path):
    pin = tmp_path / "checksums" / "x.sha256"

    def download(content, *flags):
        (tmp_path / "source").write_bytes(content)
        command = [sys.executable, str(SCRIPTS / "download.py"), "--sources", f'["{tmp_path / "source"}"]']
        command += ["--pin", str(pin), "--output.archive", str(tmp_path / "out"), *flags]
        return subprocess.run(command, capture_output=True, text=True)

    page = download(b"<!doctype html><title>Bad Gateway</title>")
    assert page.returncode == 1 and page.stderr.count("\n") == 1 and "web page" in page.stderr
    assert not pin.exists() and not (tmp_path / "out").exists()
    first = download(b"one")
    value = hashlib.sha256(b"one").hexdigest()
    assert first.returncode == 0 and value in first.stdout
    assert pin.read_text() == f"{value}  out\n"
    (tmp_path / "out").unlink()
    changed = download(b"two")
    assert (
        changed.returncode == 1
        and "wrong checksum" in changed.stderr
        and str(pin) in changed.stderr
        and not (tmp_path / "out").exists()
    )
    assert download(b"one").returncode == 0
    assert download(b"two", "--sha256", "any").returncode == 0  # asked for, and not recorded
    assert pin.read_text().startswith(value)
