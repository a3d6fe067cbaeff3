from deepclust.reporting.figures.leaderboard import MOST_DATASETS, MOST_PUBLISHED, MOST_RUNS, leaderboard_figure
from deepclust.reporting.published import Published
from deepclust.reporting.runs import read_run


def published(method, acc, protocol="held-out"):
    return Published("CIFAR-10", method, "ResNet-18", protocol, {"acc": acc}, "a paper", "")


def row_names(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_runs_come_first_and_published_results_follow_with_their_protocol(write_metrics):
    runs = [read_run(write_metrics(head=head, errors=n, published_as="CIFAR-10")) for head, n in (("a", 5), ("b", 1))]
    (axes,) = leaderboard_figure(runs, [published("SCAN", 0.88), published("CC", 0.99, "merged")]).axes
    assert row_names(axes) == ["simclr · b", "simclr · a", "SCAN · ResNet-18", "CC · ResNet-18"]
    written = [text.get_text() for text in axes.texts]
    assert "88.0  held-out" in written and "99.0  merged" in written
    assert any(text.startswith("96.7 ± 1.0") for text in written)


def test_a_run_whose_every_seed_failed_has_a_row_without_a_dot(write_metrics):
    runs = [read_run(write_metrics(head="a")), read_run(write_metrics(head="b", all_failed="collapsed"))]
    (axes,) = leaderboard_figure(runs, []).axes
    assert row_names(axes) == ["simclr · a", "simclr · b"]
    assert "every seed failed" in [text.get_text() for text in axes.texts]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in dots] == [[0]]
    (axes,) = leaderboard_figure(runs[1:], []).axes
    assert not [line for line in axes.lines if line.get_marker() == "o"]


def test_everything_that_is_drawn_is_inside(write_metrics):
    run = read_run(write_metrics(errors=1))
    (axes,) = leaderboard_figure([run], []).axes
    low, high = axes.get_xlim()
    drawn = [x for line in axes.lines for x in line.get_xdata() if line.get_transform() == axes.transData]
    mean, std, interval, ceilings = 96.67, (95.67, 97.67), (94.67, 98.67), (97.0, 98.0)
    assert {mean, *std, *interval, *ceilings} <= {round(x, 2) for x in drawn}
    assert low <= min(drawn) and max(drawn) <= high


def test_other_datasets_and_unlabelled_runs_have_no_published_results(write_metrics):
    runs = [read_run(write_metrics(dataset="mine")), read_run(write_metrics(dataset="photos", labelled=False))]
    first, second = leaderboard_figure(runs, [published("SCAN", 0.88)]).axes
    assert len(row_names(first)) == len(row_names(second)) == 1
    assert "silhouette" in second.get_xlabel()


def test_a_picture_has_an_end(write_metrics):
    run = read_run(write_metrics(published_as="CIFAR-10"))
    many = [run] * (MOST_RUNS + 5)
    (axes,) = leaderboard_figure(many, [published(f"m{n}", 0.5) for n in range(50)]).axes
    assert len(row_names(axes)) == MOST_RUNS + MOST_PUBLISHED
    assert any(f"{MOST_RUNS} of {MOST_RUNS + 5} runs" in text.get_text() for text in axes.texts)


def test_many_datasets_do_not_all_fit(write_metrics):
    runs = [read_run(write_metrics(dataset=f"d{n:02}")) for n in range(MOST_DATASETS + 1)]
    figure = leaderboard_figure(runs, [])
    assert len(figure.axes) == MOST_DATASETS
    assert str(MOST_DATASETS + 1) in figure.get_suptitle()
