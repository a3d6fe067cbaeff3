from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

CAPTIONS = sorted((Path(__file__).parents[3] / "workflow" / "report").glob("*.rst"))


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_captions_render_whatever_the_names(path):
    core = pytest.importorskip("docutils.core")
    awkward = {"dataset": "my_", "backbones": "a_+b.c-d", "head": "x_", "k": "10", "protocol": "held-out"}
    config = {"datasets": {"my_": {}}, "backbones": {"a_": {}, "b.c-d": {}}, "heads": {"x_": {}}}
    snakemake = SimpleNamespace(wildcards=SimpleNamespace(**awkward), config=config)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(path.read_text(encoding="utf-8")).render(snakemake=snakemake)
    html = core.publish_parts(text, writer="html", settings_overrides={"halt_level": 2, "report_level": 2})["body"]
    assert "system-message" not in html
    assert html.strip()


def test_there_are_captions():
    assert {path.stem for path in CAPTIONS} >= {"leaderboard", "confusion", "gallery", "map", "training", "workflow"}
