"""Lists of photographs: folders, globs, text and Parquet, as paths and as URLs of pyarrow's filesystems."""

import os
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet
from retouch_common.inference.manifest import read_manifest
from retouch_common.inference.storage import local_copy


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    for name in ("b.png", "a.JPG", "raw.cr2", "notes.txt", ".hidden.png", "a.mask.png", "deep/c.png", "deep/er/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def relative(entries):
    return [entry.relative for entry in entries]


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_stands_for_its_photographs(photos, tmp_path, scheme):
    entries = read_manifest(f"{scheme}{photos}", tmp_path / "out")
    assert relative(entries) == ["a.JPG", "b.png", "raw.cr2"]  # raw.cr2 cannot be read, which is to be reported
    assert [entry.path for entry in entries] == [f"{scheme}{photos / name}" for name in relative(entries)]
    assert [entry.size for entry in entries] == [5, 5, 7]
    assert entries[0].modified == (photos / "a.JPG").stat().st_mtime_ns
    deep = read_manifest(f"{scheme}{photos}", tmp_path / "out", recursive=True)
    assert relative(deep) == ["a.JPG", "b.png", "deep/c.png", "deep/er/d.png", "raw.cr2"]


def test_outputs_in_the_folder_are_not_inputs(photos):
    assert "deep/c.png" not in relative(read_manifest(str(photos), photos / "deep", recursive=True))


@pytest.mark.parametrize("out", ["photos/results", "disk/results"])
def test_outputs_behind_a_link_in_the_folder_are_not_inputs(photos, tmp_path, out):
    (tmp_path / "disk" / "results").mkdir(parents=True)
    (tmp_path / "disk" / "results" / "b.png").write_text("an output")
    (photos / "results").symlink_to(tmp_path / "disk" / "results")
    assert "results/b.png" not in relative(read_manifest(str(photos), tmp_path / out, recursive=True))


@pytest.mark.parametrize("out", [".", ".."])
def test_an_output_folder_around_the_photographs_does_not_hide_them(photos, out):
    assert relative(read_manifest(str(photos), photos / out)) == ["a.JPG", "b.png", "raw.cr2"]


def test_a_glob_that_cannot_be_understood_is_named(photos, tmp_path):
    with pytest.raises(ValueError, match=r"\[z-a\]\*\.jpg: the glob cannot be understood: bad character range"):
        read_manifest(f"{photos}/[z-a]*.jpg", tmp_path / "out")


def test_a_name_that_is_not_utf_8_is_named(photos, tmp_path):
    (photos / os.fsdecode(b"fa\xe7ade.png")).write_text("")
    with pytest.raises(ValueError, match=rf"^{photos}: the name {photos}/fa.*ade.png is not UTF-8; rename it"):
        read_manifest(str(photos), tmp_path / "out")


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("**/*.png", ["b.png", "deep/c.png", "deep/er/d.png"]),
        ("deep/**/*.png", ["c.png", "er/d.png"]),
        ("**.png", ["b.png", "deep/c.png", "deep/er/d.png"]),
        ("deep/**", ["c.png", "er/d.png"]),
        ("*/[c].png", ["deep/c.png"]),
        ("[!b].*", ["a.JPG"]),
        ("[ab].*", ["a.JPG", "b.png"]),
    ],
)
def test_a_glob_keeps_the_tree_below_its_first_wildcard(photos, tmp_path, scheme, pattern, expected):
    assert relative(read_manifest(f"{scheme}{photos}/{pattern}", tmp_path / "out")) == expected


def test_a_question_mark_stands_for_a_character_of_a_path(photos, tmp_path):
    """In a URL it separates options of the storage."""
    assert relative(read_manifest(f"{photos}/*/?.png", tmp_path / "out")) == ["deep/c.png"]


@pytest.mark.parametrize("kind", ["txt", "parquet"])
def test_a_list_names_files_from_its_folder_on(photos, tmp_path, kind):
    lines = ["b.png", "deep/c.png", "", "b.png", "gone\u2028.png", "../elsewhere.png", str(photos / "a.JPG")]
    file = photos / f"list.{kind}"
    if kind == "txt":
        file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    else:
        parquet.write_table(pa.table({"other": range(6), "path": [line for line in lines if line]}), file)
    entries = read_manifest(str(file), tmp_path / "out")
    whole = str(tmp_path).lstrip("/")
    assert relative(entries) == [
        "b.png", "deep/c.png", "gone\u2028.png", f"{whole}/elsewhere.png", f"{whole}/photos/a.JPG",
    ]  # fmt: skip
    assert [entry.size for entry in entries] == [5, 10, None, None, 5]
    assert entries[3].path == str(tmp_path / "elsewhere.png")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("file:///tmp/../../../etc/x.png", "etc/x.png"),
        ("file:///tmp/%2e%2e/%2e%2e/x.png", "x.png"),
        ("file:///../../x.png", "x.png"),
        ("../" * 64 + "etc/x.png", "etc/x.png"),
        ("deep/" + "../" * 64 + "x.png", "x.png"),
        ("deep//../deep/./c.png", "deep/c.png"),
    ],
)
def test_outputs_of_a_list_stay_in_their_folder(photos, tmp_path, line, expected):
    (photos / "list.txt").write_text(line)
    assert relative(read_manifest(str(photos / "list.txt"), tmp_path / "out")) == [expected]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a\0b.png", "holds a NUL character"),
        (f"{'x' * 300}.png", "is too long"),
        ("deep/" * 1000 + "x.png", "is too long"),
        ("nonsense://x/y.png", "cannot be opened: Unrecognized filesystem"),
        ("http://x/y.png", "cannot be opened: Unrecognized filesystem"),
    ],
)
def test_impossible_lines_of_a_list_are_named(photos, tmp_path, line, reason):
    (photos / "list.txt").write_text(f"b.png\n{line}\n")
    with pytest.raises(ValueError, match=f"list.txt: .*{reason}.*; correct or remove the line") as error:
        read_manifest(str(photos / "list.txt"), tmp_path / "out")
    assert len(str(error.value)) < 3000


def test_a_list_may_mix_paths_and_urls(photos, tmp_path):
    (photos / "sp ace.png").write_text("spaced")
    (photos / "list.txt").write_text(f"file://{photos}/sp%20ace.png\nb.png\n")
    entries = read_manifest(str(photos / "list.txt"), tmp_path / "out")
    assert [entry.size for entry in entries] == [6, 5]
    with local_copy(entries[0].path) as copy:
        assert copy.read_text() == "spaced"
        assert (copy.parent.name, copy.name) == (photos.name, "sp ace.png")
        assert copy.stat().st_mtime_ns == (photos / "sp ace.png").stat().st_mtime_ns
    assert not copy.exists()
    with local_copy(entries[1].path) as same:
        assert same == photos / "b.png"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "no such folder"),
        ("b.png", "give a photo as INPUT"),
        ("*.bmp", "lists no photo"),
        ("gone/*.png", "gone"),
        ("latin.txt", "UTF-8"),
        ("text.parquet", "cannot be read as Parquet"),
        ("columns.parquet", 'no column "path", only file'),
        ("numbers.parquet", "not text"),
        ("gone.txt", "gone.txt"),
    ],
)
def test_what_is_no_list_is_refused_by_name(photos, tmp_path, name, message):
    (photos / "latin.txt").write_bytes(b"\xe9.png")
    (photos / "text.parquet").write_text("text")
    parquet.write_table(pa.table({"file": ["a"]}), photos / "columns.parquet")
    parquet.write_table(pa.table({"path": [1]}), photos / "numbers.parquet")
    with pytest.raises((ValueError, OSError), match=message):
        read_manifest(str(photos / name), tmp_path / "out")


@pytest.mark.parametrize("name", ["list.txt", "*.png"])
def test_recursive_is_for_folders(photos, tmp_path, name):
    (photos / "list.txt").write_text("b.png")
    with pytest.raises(ValueError, match="--recursive is for folders"):
        read_manifest(str(photos / name), tmp_path / "out", recursive=True)


def test_pyarrow_is_an_extra(photos, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r'pip install "retouch-common\[many\]"'):
        read_manifest(str(photos), tmp_path / "out")
