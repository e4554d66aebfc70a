from pathlib import Path

import pytest
from retouch_common.photo.batch import Job, check_target, plan_jobs


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def names(jobs, base):
    return [(str(job.source.relative_to(base)), str(job.target.relative_to(base))) for job in jobs]


def test_one_file_into_a_file_or_a_folder(tmp_path):
    source = touch(tmp_path / "a.jpg")
    assert plan_jobs([source], tmp_path / "b.png") == [Job(source, tmp_path / "b.png")]
    assert plan_jobs([source], tmp_path / "o") == [Job(source, tmp_path / "o" / "a.jpg")]
    (tmp_path / "odd.png").mkdir()
    assert plan_jobs([source], tmp_path / "odd.png") == [Job(source, tmp_path / "odd.png" / "a.jpg")]


def test_folder_stands_for_its_pictures(tmp_path):
    for name in ("in/b.JPG", "in/a.png", "in/.hidden.jpg", "in/notes.txt", "in/sub/c.tif", "in/.git/d.png"):
        touch(tmp_path / name)
    flat = plan_jobs([tmp_path / "in"], tmp_path / "o")
    assert names(flat, tmp_path) == [("in/a.png", "o/a.png"), ("in/b.JPG", "o/b.JPG")]
    deep = plan_jobs([tmp_path / "in"], tmp_path / "o", recursive=True)
    assert names(deep, tmp_path)[2:] == [("in/sub/c.tif", "o/sub/c.tif")]


def test_pictures_of_other_formats_are_not_passed_over_in_silence(tmp_path):
    touch(tmp_path / "in" / "phone.heic")
    assert len(plan_jobs([tmp_path / "in"], tmp_path / "o")) == 1


def test_results_of_an_earlier_run_are_no_inputs(tmp_path):
    touch(tmp_path / "in" / "a.png")
    touch(tmp_path / "in" / "out" / "a.png")
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "in" / "out", recursive=True)
    assert names(jobs, tmp_path) == [("in/a.png", "in/out/a.png")]


def test_equal_names_are_numbered_whatever_their_case(tmp_path):
    sources = [touch(tmp_path / folder / name) for folder, name in [("x", "a.jpg"), ("y", "A.jpg"), ("z", "a.jpg")]]
    targets = [job.target.name for job in plan_jobs(sources, tmp_path / "o")]
    assert targets == ["a.jpg", "A-2.jpg", "a-3.jpg"]


def test_photo_without_a_telling_name_gets_one(make_photo, tmp_path):
    path = make_photo("a.png")[0].rename(tmp_path / "scan.0001")
    assert plan_jobs([path], tmp_path / "o")[0].target.name == "scan.0001.png"


def test_folder_without_pictures_is_an_error(tmp_path):
    touch(tmp_path / "in" / "sub" / "a.png")
    with pytest.raises(ValueError, match="no photo in this folder; use --recursive"):
        plan_jobs([tmp_path / "in"], tmp_path / "o")
    with pytest.raises(ValueError, match=r"no photo in this folder$"):
        plan_jobs([tmp_path / "in" / "sub" / ".."], tmp_path / "in" / "sub", recursive=True)


def test_output_must_be_what_the_inputs_need(tmp_path):
    first, second = touch(tmp_path / "a.jpg"), touch(tmp_path / "b.jpg")
    for inputs, out, message in [
        ([first, second], tmp_path / "new.jpg", "is a file name, but"),
        ([tmp_path], tmp_path / "new.jpg", "is a file name, but"),
        ([first, second], second, "is a file, but"),
        ([first], touch(tmp_path / "plain"), "is a file, but"),
        ([first], tmp_path / "new.gif", "cannot be written; the name must end in one of .jpg"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan_jobs(inputs, out)


def test_inputs_are_protected(tmp_path):
    first, second = touch(tmp_path / "a.jpg"), touch(tmp_path / "b.jpg")
    check_target(Job(first, tmp_path / "new.jpg"), [first, second], overwrite=False)
    check_target(Job(first, touch(tmp_path / "old.jpg")), [first, second, Path("missing")], overwrite=False)
    check_target(Job(first, first), [first, second], overwrite=True)
    with pytest.raises(ValueError, match="the output is the input"):
        check_target(Job(first, first), [first, second], overwrite=False)
    with pytest.raises(ValueError, match="is another input"):
        check_target(Job(first, second), [first, second], overwrite=True)
    link = tmp_path / "link.jpg"
    link.symlink_to(second)
    with pytest.raises(ValueError, match="is another input"):
        check_target(Job(first, link), [first, second], overwrite=True)
