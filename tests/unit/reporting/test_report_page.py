import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepclust.core.errors import DeepclustError
from deepclust.core.files import write_json
from deepclust.core.progress import Progress
from deepclust.reporting.embedding import embed, figures_of
from deepclust.reporting.job_use import JobUse, use_table
from deepclust.reporting.page import Content, read_config, render_page
from deepclust.reporting.published import Published
from deepclust.reporting.records import facts
from deepclust.reporting.runs import read_run
from deepclust.reporting.tables import duration, gains, leaderboard_table, published_table, seed_table

PUBLISHED = [
    Published("CIFAR-10", "SCAN", "ResNet-18", "held-out", {"acc": 0.883}, "a README", "best model"),
    Published("CIFAR-10", "CC", "ResNet-34", "merged", {"acc": 0.79, "nmi": 0.705}, "a table", ""),
]


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)

    def values(self, name):
        return [value for _, attribute, value in self.attributes if attribute == name]


@pytest.fixture
def render(write_metrics, tmp_path):
    """Render the page of runs given by what differs in their metrics."""

    def make(*runs, most_runs=24, config=None, training=False, snapshots=False, jobs=(), choices=()):
        paths = [write_metrics(**facts) for facts in runs]
        read = [read_run(path) for path in paths]
        picture = tmp_path / "picture.png"
        Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(picture)
        figures = []
        for run in read:
            for name in ("confusion", "gallery", "map"):
                figures.append(tmp_path / "results/report" / run.path / f"{name}.png")
        report = tmp_path / "results/report"
        settings = [Path(path.parts[-4], path.parts[-3], path.stem, "choice_of_k") for path in choices]
        others = ["leaderboard", *(["training"] if training else []), *(["snapshots"] if snapshots else []), *settings]
        figures += [report / f"{name}.png" for name in others]
        for path in figures:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture.read_bytes())
        table = tmp_path / "leaderboard.csv"
        table.write_text("dataset,acc_mean\ntoy,0.9\n")
        content = Content(
            runs=read,
            figures=figures,
            published=PUBLISHED,
            config=config or {"backbones": {"pixels": {"method": "pixels"}, "simclr": {"method": "simclr"}}},
            origin=facts(read, []),
            jobs=use_table(jobs),
            leaderboard=table,
            choices=choices,
        )
        html = render_page(content, most_runs, Progress())
        return Page(html), html

    return make


def test_what_jobs_used_is_shown_where_it_is_known(render):
    use = JobUse("pretrain", 100.0, 300.0, 500.0, None, None, None, 4, 1000, 10)
    _, html = render({}, jobs=[use])
    assert 'href="#jobs"' in html and "75 %" in html and "50 %" in html
    _, html = render({})
    assert "#jobs" not in html


def test_files_that_were_skipped_stand_beside_the_images(render):
    text = "".join(render({"skipped": 1200})[0].text)
    assert "held-out: 30 images (test), 1,200 files skipped" in text
    assert "skipped" not in "".join(render({})[0].text)


def test_the_choice_among_heads_stands_beside_its_oracle(render):
    """The second head has the higher modularity, the first the higher accuracy."""
    found, _ = render({"errors": 0}, {"head": "temi", "errors": 3, "modularity": 0.7}, {"head": "scan", "errors": 9})
    text = "".join(found.text)
    table = text[text.index("The choice among heads") :]
    assert table.index("temi") < table.index("of 3 heads") < table.index("90.0") < table.index("100.0")
    assert "Oracle: best head" in table and "10.0" in table
    found, html = render({"labelled": False}, {"labelled": False, "head": "temi"})
    assert "The choice among heads" in html and "Oracle" not in html
    assert "The choice among heads" not in render({})[1]


def test_chosen_numbers_of_clusters_are_explained(render, tmp_path):
    path = tmp_path / "results/clustering/toy/net+pixels/k/merged.json"
    criteria = {name: [0.1, 0.3] for name in ("silhouette", "stability", "modularity", "eigengap", "mean_rank")}
    choice = {"k": 3, "reason": "because <it> is", "numbers": [2, 3], "criteria": criteria, "images": 9}
    write_json(path, choice)
    found, html = render({"k_by": "auto"}, {"head": "other"}, choices=[path])
    text = "".join(found.text)
    assert "because <it> is" in text and "toy · net+pixels · merged" in text and "3 (auto)" in text
    assert "#number-of-clusters" in found.values("href")
    _, html = render({})
    assert "number-of-clusters" not in html
    write_json(path, {**choice, "criteria": {}})
    with pytest.raises(DeepclustError, match=r"merged\.json"):
        render({"k_by": "auto"}, choices=[path])


def test_the_page_needs_no_network(render):
    found, html = render({"published_as": "CIFAR-10"}, training=True, snapshots=True)
    addresses = found.values("src") + found.values("href")
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "link" not in found.tags and "iframe" not in found.tags and "@import" not in html and "url(" not in html
    assert found.tags.count("img") == 6


def test_runs_are_shown_with_what_their_backbone_saw(render):
    _, html = render({"backbones": ("dino", "pixels")})
    assert "images for dino + images for pixels" in html


def test_names_are_text_not_markup(render):
    nasty = "<script>alert(1)</script>"
    found, html = render({"classes": [nasty, "a&b", "'\"c"], "failed": nasty}, config={"backbones": {}, "note": nasty})
    assert found.tags.count("script") == 1
    assert nasty not in html
    assert nasty in "".join(found.text)


def test_links_lead_somewhere(render):
    found, _ = render({}, {"head": "temi", "errors": 5}, training=True)
    targets = {f"#{name}" for name in found.values("id")}
    links = {value for value in found.values("href") if value.startswith("#")}
    assert links <= targets
    assert {"#run-1", "#run-2", "#training"} <= links


def test_the_gain_over_raw_pixels_is_stated(render):
    found, _ = render({"backbones": ("pixels",), "errors": 10}, {"errors": 1})
    text = "".join(found.text)
    assert "+30.0" in text and "points of ACC over raw pixels" in text


def test_without_raw_pixels_no_gain_is_stated(render):
    found, _ = render({"errors": 1})
    assert "over raw pixels" not in "".join(found.text)


def test_a_failed_seed_is_shown_with_its_reason(render):
    found, _ = render({"failed": "1 of 3 clusters is empty"})
    text = "".join(found.text)
    assert "1 failed" in text and "1 of 3 clusters is empty" in text


def test_a_run_whose_every_seed_failed_is_shown_without_scores(render):
    """In the table, with the reason, and in a section of its own; no choice and no gain counts it."""
    reason = "one cluster took all images: lower <k>"
    found, _ = render({"errors": 1}, {"head": "temi", "all_failed": reason}, {"head": "scan", "modularity": 0.5})
    text = "".join(found.text)
    assert text.count(reason) == 2, "below the table, and in the table of seeds"
    assert "of 2 heads" in text
    assert found.tags.count("img") == 1 + 2 * 3, "the board's figure, and those of two runs"
    pixels = {"backbones": ("pixels",), "all_failed": reason}
    for runs in ([pixels, {"errors": 1}], [{**pixels, "all_failed": ""}, {"all_failed": reason}], [pixels]):
        found, _ = render(*runs)
        assert "over raw pixels" not in "".join(found.text)


def test_failed_runs_are_not_among_published_ones(write_metrics):
    runs = [read_run(write_metrics(head=h, published_as="CIFAR-10", all_failed=f)) for h, f in (("a", ""), ("b", "x"))]
    table = published_table(runs, PUBLISHED)
    assert table is not None and [run.head for run in table.runs if run] == ["a"]


def test_of_many_runs_some_have_sections_and_it_is_said(render):
    runs = [{"head": f"h{n}", "errors": n} for n in range(5)]
    found, _ = render(*runs, most_runs=2)
    text = "".join(found.text)
    assert found.tags.count("details") == 2
    assert "2 best of 5 runs" in text
    assert all(f"h{n}" in text for n in range(5))


def test_sections_take_turns_between_datasets(render):
    runs = [{"dataset": dataset, "head": head} for dataset in ("a", "b") for head in ("x", "y")]
    found, _ = render(*runs, most_runs=2)
    summaries = [text for text in found.text if " · simclr · " in text]
    assert [text.split(" · ")[0] for text in summaries] == ["a", "b"]


def test_without_labels_the_page_works_too(render):
    found, _ = render({"labelled": False})
    text = "".join(found.text)
    assert "no labels" in text and "Silhouette" in text and "Cluster sizes" in text
    assert "Accuracy per class" not in text


def test_mixed_versions_are_pointed_out(render, write_metrics, tmp_path):
    runs = [read_run(write_metrics(head=head)) for head in ("a", "b")]
    runs[1].cost["packages"] = {"numpy": "2.1"}
    record = tmp_path / "metrics.provenance.json"
    write_json(record, {"git": "abc123", "python": "3.11.7"})
    found = dict(facts(runs, [record]))
    assert found["git revision"] == [("abc123", 1)]
    assert found["numpy"] == [("2.0", 1), ("2.1", 1)]
    assert found["device"] == [("a CPU", 2)]


def test_the_same_runs_give_the_same_page(render):
    assert render({"published_as": "CIFAR-10"})[1] == render({"published_as": "CIFAR-10"})[1]


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_leaderboard_shows_only_columns_that_differ(write_metrics):
    def titles(*runs):
        return [
            column.title
            for column in leaderboard_table([read_run(write_metrics(**facts)) for facts in runs], {}).columns
        ]

    assert not {"k", "Protocol", "vs. pixels"} & set(titles({}))
    assert {"k", "Protocol"} <= set(titles({}, {"k": 5, "protocol": "merged"}))
    assert not {"AMI", "Purity"} & set(titles({}))
    assert {"k", "AMI", "Purity"} <= set(titles({"k": 5}))  # more clusters than classes


def test_every_row_has_a_cell_in_every_column(write_metrics):
    runs = [read_run(write_metrics(backbones=(name,), published_as="CIFAR-10")) for name in ("pixels", "simclr")]
    run = read_run(write_metrics(failed="no reason", head="temi"))
    finer = leaderboard_table([read_run(write_metrics(k=5))], {})
    ranking = leaderboard_table(runs, gains(runs, {"pixels"}))
    tables = [ranking, finer, published_table(runs, PUBLISHED), seed_table(run)]
    for table in tables:
        assert table is not None and table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}
        assert len(table.runs) == len(table.rows)


def test_gains_compare_only_what_is_otherwise_the_same(write_metrics):
    pixels = read_run(write_metrics(backbones=("pixels",), errors=9))
    same = read_run(write_metrics(errors=3))
    other_head = read_run(write_metrics(head="temi"))
    other_k = read_run(write_metrics(k=4))
    both = read_run(write_metrics(backbones=("pixels", "simclr")))
    found = gains([pixels, same, other_head, other_k, both], {"pixels"})
    assert set(found) == {same.path, both.path}
    assert found[same.path].points == pytest.approx(20)


def test_gains_are_over_the_best_raw_pixels(write_metrics):
    small, large = (read_run(write_metrics(backbones=(name,), errors=n)) for name, n in (("small", 9), ("large", 6)))
    run = read_run(write_metrics(errors=3))
    for order in ([small, large, run], [run, large, small]):
        (gain,) = gains(order, {"small", "large"}).values()
        assert (gain.run, gain.baseline) == (run, large)


def test_runs_without_labels_have_no_accuracy_beside_those_with_labels(write_metrics):
    labelled, flat = (
        read_run(write_metrics(published_as="CIFAR-10", protocol=protocol, labelled=protocol == "train"))
        for protocol in ("train", "held-out")
    )
    table = leaderboard_table([labelled, flat], {})
    accuracy = [column.title for column in table.columns].index("ACC")
    assert table.rows[0][accuracy].value == labelled.mean("acc")
    cell = table.rows[1][accuracy]
    assert (cell.value, cell.bar, cell.detail) == (None, None, "") and "0.25" not in cell.text
    published = published_table([labelled, flat], PUBLISHED)
    assert published is not None and labelled in published.runs and flat not in published.runs


def test_own_runs_stand_among_published_ones_by_accuracy(write_metrics):
    runs = [read_run(write_metrics(published_as="CIFAR-10", errors=5))]
    table = published_table(runs, PUBLISHED)
    assert table is not None
    assert [row[0].text for row in table.rows] == ["SCAN", "kmeans", "CC"]
    assert [run is not None for run in table.runs] == [False, True, False]
    assert [row[2].text for row in table.rows] == ["held-out", "held-out", "merged"]
    assert published_table([read_run(write_metrics(dataset="mine"))], PUBLISHED) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")],
)
def test_durations_are_readable(seconds, text):
    assert duration(seconds) == text


# --- figures and config -----------------------------------------------------------------------------------------------


def test_large_figures_shrink_and_keep_their_size_on_the_page(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    Image.fromarray(np.zeros((300, 400, 3), np.uint8)).save(tmp_path / "flat.png")
    large, small = embed(tmp_path / "noise.png"), embed(tmp_path / "flat.png")
    assert large.source.startswith("data:image/webp") and small.source.startswith("data:image/png")
    assert len(large.source) < (tmp_path / "noise.png").stat().st_size
    assert (large.width, large.height) == (small.width, small.height) == (200, 150)


def test_what_is_no_figure_is_named(tmp_path):
    (tmp_path / "x.png").write_text("no image")
    with pytest.raises(DeepclustError, match=r"x\.png"):
        embed(tmp_path / "x.png")


def test_figures_belong_to_the_run_whose_path_their_folder_ends_in(write_metrics):
    run = read_run(write_metrics())
    files = [Path(f"results/report/{path}/map.png") for path in (run.path, f"x{run.path}", f"{run.path}/x", "toy")]
    assert figures_of(run, files) == {"map": files[0]}


def test_the_experiment_may_be_yaml_or_json(tmp_path):
    path = tmp_path / "experiment"
    path.write_text("seeds: 5\n")
    assert read_config(path) == {"seeds": 5}
    path.write_text(json.dumps({"seeds": 5}))
    assert read_config(path) == {"seeds": 5}
    for broken in ("a: [", "5", ""):
        path.write_text(broken)
        with pytest.raises(DeepclustError, match="experiment"):
            read_config(path)
