import pytest

from deepclust.planning.strict_yaml import check_file


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: 1\na: 2\n", "duplicate key 'a'"),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", "line 4"),
        ("a: {b: &x {c: 1, d: 2, c: 3}}\ne: {<<: *x, c: 4}\n", "line 1, column 24: duplicate key 'c'"),
        ("a: &x {c: 1}\ne: {<<: *x, d: 2, d: 3}\n", "line 2, column 19: duplicate key 'd'"),
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- a\n- b\n", "mapping"),
        ("a: [1, 2\n", "line"),
        ("a: 'x\n", "line"),
        ("\ta: 1\n", "line 1"),
        ("a:\n\tb: 1\n", "line 2, column 1: found character that cannot start any token: if a tab"),
        ("runs: [{k:[5\n", "line 1, column 10"),
        ('a: "C:\\Users\\x"\n', "between double quotes a backslash begins an escape"),
        ('a: "C:\\Images\\x"\n', "between double quotes a backslash begins an escape"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1"),
        ("? [1, 2]\n: 3\n", "line 1"),
        ("a: {b: 2020-13-45}\n", "line 1, column 8: month must be in 1..12"),
    ],
)
def test_problems_are_one_line_and_say_where(tmp_path, text, named):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    (line,) = check_file(path)
    assert line.startswith(str(path)) and named in line and "\n" not in line


def test_missing_and_binary_files(tmp_path):
    assert len(check_file(tmp_path / "none.yaml")) == 1
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert len(check_file(tmp_path / "b.yaml")) == 1


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_file_in_another_encoding(tmp_path, encoding):
    (tmp_path / "x.yaml").write_text("datasets: {Köln: {loader: digits}}\n", encoding=encoding)
    (line,) = check_file(tmp_path / "x.yaml")
    assert line.startswith(str(tmp_path / "x.yaml")) and line.endswith("save it as UTF-8")


def test_a_good_file_has_no_problems(tmp_path):
    (tmp_path / "x.yaml").write_text("a: {b: 1, c: [1, 2]}\nd: &x {e: 1}\nf: *x\ng: {<<: *x, e: 2}\n")
    assert check_file(tmp_path / "x.yaml") == []


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: &x {c: 1}, d: &y {<<: *x, c: 2}}\ne: {<<: *y}\n",
        "a: {b: &x {c: 1}, d: &y {<<: *x, c: 2}}\ne: {<<: *y, c: 3}\nf: {<<: [*x, *y]}\n",
        "a: {b: {c: &x {d: 1}, e: &y {<<: *x, d: 2}}, f: &z {<<: *y, d: 3}}\ng: {<<: *z, d: 4}\n",
    ],
)
def test_what_a_merge_brings_may_be_overridden_wherever_it_is_merged_again(tmp_path, text):
    """A mapping that stands deeper in the file than one that merges it is read after it."""
    (tmp_path / "x.yaml").write_text(text)
    assert check_file(tmp_path / "x.yaml") == []
