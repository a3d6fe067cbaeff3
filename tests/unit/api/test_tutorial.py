"""The blocks of docs/python.md run one after the other, and print what their comments say."""

import re

from deepclust.core.fingerprint import SCRIPTS

ROOT = SCRIPTS.parents[1]
PAGE = ROOT / "docs" / "python.md"


def test_the_blocks_of_the_page_run(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    (tmp_path / "weights").symlink_to(ROOT / "weights")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "unknown head 'kmean'; did you mean 'kmeans'?" in printed
    assert len(names["others"]) == 797
    assert (tmp_path / "clusters.safetensors").exists()
