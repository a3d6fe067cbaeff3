"""Images of one's own as other programs leave them: blanks, quotes, nulls, hidden files, names that are no text."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from formats import FORMATS, picture, unpacked

from deepclust.core.errors import DeepclustError
from deepclust.data.wnids import SUBSETS

WNID = SUBSETS["imagenet-10"][0]
PHOTOS = {name: picture() for name in ("a.png", "b.png", "c.png")}


def listed(content, name="list.csv"):
    def pack(folder, members):
        unpacked(folder, members)
        return [], {"path": folder / name}

    return replace(FORMATS["list"], members={name: content, **PHOTOS}, pack=pack)


def classes(folder):
    return json.loads((folder / "l" / "classes.json").read_text())


def fails(format, folder, match, **options):
    with pytest.raises(DeepclustError, match=match) as error:
        format.prepare(folder, **options)
    assert "\n" not in str(error.value)


def test_blanks_in_a_table_do_not_count(tmp_path):
    table = b'path , label\r\n a.png, cat\r\n\r\nb.png,cat \r\n"c.png", "big dog"\r\n'
    assert listed(table).prepare(tmp_path)[1] == {"a.png": 1, "b.png": 1, "c.png": 0}
    assert classes(tmp_path) == ["big dog", "cat"]


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"path,Label", "no column 'label', but 'Label': .*label_column: Label"),
        (b"PATH,label", "no column 'path', but 'PATH': .*path_column: PATH"),
    ],
)
def test_a_column_in_another_case_is_not_overlooked(tmp_path, header, match):
    fails(listed(header + b"\na.png,cat\n"), tmp_path, match)


def test_a_column_in_another_case_can_be_named(tmp_path):
    format = listed(b"Path,Label\na.png,cat\n")
    assert format.prepare(tmp_path, path_column="Path", label_column="Label")[1] == {"a.png": 0}


def test_quotes_between_tabs_are_characters(tmp_path):
    table = b'path\tlabel\na.png\t"wild" cat\nb.png\t"dog\nc.png\tdog"\n'
    assert set(listed(table, "list.tsv").prepare(tmp_path)[1]) == set(PHOTOS)
    assert classes(tmp_path) == ['"dog', '"wild" cat', 'dog"']


def test_a_tsv_whose_columns_are_quoted(tmp_path):
    fails(listed(b'"path"\t"label"\n"a.png"\t"cat"\n', "list.tsv"), tmp_path, 'column "path", quotes included')


@pytest.mark.parametrize(
    "table", [b'path,label\na.png,"cat\nb.png,"dog\nc.png,dog\n', b'path,"label\na.png,cat\nb.png,dog"\nc.png,dog\n']
)
def test_quotes_that_swallow_lines(tmp_path, table):
    fails(listed(table), tmp_path, "line .*close its quotes")


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (b"path,label\na.png,cat, tabby\nb.png,cat, persian\n", r"list.csv, line 2: 3 fields, .* 2 columns"),
        (b"path,label\na.png,cat\n\nb.png\n", r"list.csv, line 4: 1 field, .* 2 columns"),
        (b"path\na.png,\n", r"line 2: 2 fields, .* 1 column"),
        (b"label,path,label\nx,a.png,cat\ny,b.png,dog\n", "has the column 'label' twice"),
        (b"path,path\na.png,b.png\n", "has the column 'path' twice"),
    ],
)
def test_rows_of_a_table_have_a_field_for_each_column(tmp_path, table, match):
    fails(listed(table), tmp_path, match)


def test_columns_that_nobody_reads_may_have_one_name(tmp_path):
    assert listed(b"path,,label,\na.png,1,cat,\nb.png,2,dog,\n").prepare(tmp_path)[1] == {"a.png": 0, "b.png": 1}


@pytest.mark.parametrize("unknown", ["", "-1", "-1.0", "nan", "NaN", "None"])
def test_ways_to_write_that_a_label_is_not_known(tmp_path, unknown):
    table = f"path,label\na.png,{unknown}\nb.png,dog\nc.png,cat\n"
    assert listed(table.encode()).prepare(tmp_path)[1] == {"a.png": -1, "b.png": 1, "c.png": 0}
    assert classes(tmp_path) == ["cat", "dog"]


def test_labels_that_look_a_little_like_unknown_ones(tmp_path):
    table = b"path,label\na.png,none\nb.png,-10\nc.png,nano\n"
    assert listed(table).prepare(tmp_path)[1] == {"a.png": 2, "b.png": 0, "c.png": 1}


@pytest.mark.parametrize("labels", [[0.0, 1.0, None], [0.0, 1.0, float("nan")], [0, 1, -1]])
def test_numbers_of_classes_beside_unknown_ones_in_parquet_files(tmp_path, labels):
    def pack(folder, members):
        folder.mkdir(parents=True)
        images = [picture() for _ in labels]
        pq.write_table(pa.table({"image": images, "label": pa.array(labels)}), folder / "x.parquet")
        return [], {"path": folder, "train": "*.parquet"}

    format = replace(FORMATS["parquet"], pack=pack)
    assert format.prepare(tmp_path)[1] == {"x.parquet/0": 0, "x.parquet/1": 1, "x.parquet/2": -1}


@pytest.mark.parametrize("label", [0.5, float("inf"), "cat"])
def test_labels_that_are_no_numbers_of_classes(tmp_path, label):
    def pack(folder, members):
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"image": [picture()], "label": [label]}), folder / "x.parquet")
        return [], {"path": folder, "train": "*.parquet"}

    fails(replace(FORMATS["parquet"], pack=pack), tmp_path, f"label {label!r}, expected a whole number")


@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_a_path_that_holds_nul(tmp_path, name):
    fails(listed(b"path\na\0.png\n", name), tmp_path, r"'a\\x00.png'.* UTF-8")


@pytest.mark.parametrize("kind", [pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.binary()])
def test_null_images_in_parquet_files(tmp_path, kind):
    def pack(folder, members):
        folder.mkdir(parents=True)
        whole = {"bytes": picture(), "path": "1.png"} if pa.types.is_struct(kind) else picture()
        nothing = {"bytes": None, "path": None} if pa.types.is_struct(kind) else None
        table = pa.table({"image": pa.array([None, whole, nothing], kind), "label": [0, 1, 0]})
        pq.write_table(table, folder / "x.parquet")
        return [], {"path": folder, "train": "*.parquet"}

    format = replace(FORMATS["parquet"], pack=pack)
    fails(format, tmp_path / "a", "2 of 3 images do not decode")
    assert format.prepare(tmp_path / "b", on_error="skip", skip_limit=0.7)[1] == {"x.parquet/1": 1}
    assert (tmp_path / "b" / "l" / "skipped.csv").read_text().count("\n") == 3


def test_images_that_parquet_files_only_name(tmp_path):
    format = replace(FORMATS["parquet"], members={"train-0/elsewhere.png:0": None})
    fails(format, tmp_path, "must be embedded", on_error="skip")


def test_hidden_members_do_not_part_a_sample(tmp_path):
    members = {"a/000.cls": b"1", "a/._000.png": b"\0", "a/000.png": picture(), "a/._001.png": b"\0"}
    assert replace(FORMATS["shards"], members=members).prepare(tmp_path)[1] == {"a.tar/000.png": 1}


def test_shards_without_images(tmp_path):
    members = {"a/000.jxl": picture(), "b/001.json": b"{}"}
    fails(replace(FORMATS["shards"], members=members), tmp_path, "no images .*jpeg")


def test_hidden_files_of_imagenet(tmp_path):
    format = FORMATS["imagenet"].with_members(**{f"train/{WNID}/._{WNID}_1.JPEG": b"\0"})
    assert format.prepare(tmp_path)[1] == format.labels


@pytest.mark.parametrize(
    ("loader", "member", "old", "new", "name"),
    [
        ("shards", "a/1.png", "a.tar", "caf\udce9.tar", r"caf\xe9.tar/1.png"),
        (
            "parquet",
            "train-0/a:0",
            "data/train-0.parquet",
            "data/train-caf\udce9.parquet",
            r"data/train-caf\xe9.parquet/0",
        ),
        (
            "imagenet",
            f"train/{WNID}/1.JPEG",
            f"train/{WNID}/1.JPEG",
            f"train/{WNID}/caf\udce9.JPEG",
            WNID + r"/caf\xe9.JPEG",
        ),
    ],
    ids=["shards", "parquet", "imagenet"],
)
def test_names_that_are_not_unicode(tmp_path, loader, member, old, new, name):
    def pack(folder, members):
        packed = FORMATS[loader].pack(folder, members)
        (folder / old).rename(folder / new)
        return packed

    (tmp_path / "subset.txt").write_text(WNID)
    options = {"subset": tmp_path / "subset.txt"} if loader == "imagenet" else {}
    format = replace(FORMATS[loader], members={member: picture()}, pack=pack, count=None)
    assert list(format.prepare(tmp_path, **options)[1]) == [name]
