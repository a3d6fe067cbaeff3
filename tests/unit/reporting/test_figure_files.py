"""The files of figures: what planning reads in them is what drawing finds in them."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest

from deepclust.core import registry
from deepclust.core.errors import DeepclustError
from deepclust.core.figures import PACKAGE, figures, read_figure
from deepclust.planning.captions import caption, caption_file

NAMES = [path.stem for path in registry.files(PACKAGE)]
REPORT = Path(__file__).parents[3] / "workflow" / "report"


def test_every_file_is_a_figure_and_every_figure_a_file():
    folder = Path(registry.__file__).parents[1] / "reporting" / "figures"
    assert sorted(figures()) == NAMES == sorted(path.stem for path in folder.iterdir() if path.stem[0] != "_")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_without_import_is_what_the_module_has(name):
    module, figure = registry.load(PACKAGE, name), figures()[name]
    assert figure.facts == module.FACTS
    assert figure.module == module.__name__
    assert figure.options == tuple(module.Options.model_fields)
    assert callable(module.draw)


def test_figures_share_no_option():
    counts = Counter(option for figure in figures().values() for option in figure.options)
    assert counts and max(counts.values()) == 1


def test_figures_come_in_their_order():
    assert list(figures("run")) == ["confusion", "map", "gallery"]
    assert [name for name in figures() if name in figures("experiment")] == list(figures("experiment"))


RUNS = "FACTS = FigureFacts(title='x', scope='runs', reads=())"


@pytest.mark.parametrize(
    "text", ["", "FACTS = 3", "FACTS = FigureFacts(title=name)", "FACTS = FigureFacts(title='x')", "FACTS = (", RUNS]
)
def test_a_file_that_does_not_say_what_it_draws_is_named(tmp_path, text):
    path = tmp_path / "figure.py"
    path.write_text(text)
    with pytest.raises(DeepclustError, match=r"figure\.py") as raised:
        read_figure(path)
    assert "\n" not in str(raised.value)


def test_options_begin_with_the_name_of_their_figure(tmp_path):
    path = tmp_path / "sizes.py"
    path.write_text(f"{RUNS.replace('runs', 'run')}\nclass Options:\n    bars: int = 3\n")
    with pytest.raises(DeepclustError, match="call its option bars sizes_bars"):
        read_figure(path)


def rendered(text, **more):
    """A caption as Snakemake shows it, whatever the names."""
    core = pytest.importorskip("docutils.core")
    awkward = {"dataset": "my_", "backbones": "a_+b.c-d", "head": "x_", "k": "10", "protocol": "held-out"}
    config = {"datasets": {"my_": {}}, "backbones": {"a_": {}, "b.c-d": {}}, "heads": {"x_": {}}}
    snakemake = SimpleNamespace(wildcards=SimpleNamespace(**awkward, **more), config=config)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = environment.from_string(text).render(snakemake=snakemake)
    html = core.publish_parts(text, writer="html", settings_overrides={"halt_level": 2, "report_level": 2})["body"]
    assert "system-message" not in html
    return html


@pytest.mark.parametrize("path", sorted(REPORT.glob("*.rst")), ids=lambda path: path.stem)
def test_captions_of_the_rest_render(path):
    assert rendered(path.read_text(encoding="utf-8")).strip()


@pytest.mark.parametrize("name", NAMES)
def test_captions_of_figures_render(name):
    facts = figures()[name].facts
    html = rendered(caption(figures()[name]))
    assert (facts.explanation or facts.reading).split(" ")[0] in html
    assert ("x_" in html) is (facts.scope == "run")


def test_of_several_figures_the_wildcard_tells_the_caption(tmp_path):
    path = Path(caption_file(figures("experiment"), tmp_path))
    assert path.is_relative_to(tmp_path)
    texts = {name: rendered(path.read_text(encoding="utf-8"), figure=name) for name in figures("experiment")}
    assert len(set(texts.values())) == len(texts)
    for name, text in texts.items():
        assert text.strip() == rendered(caption(figures()[name])).strip()
