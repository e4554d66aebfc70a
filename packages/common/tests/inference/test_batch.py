import contextlib
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from retouch_common.inference.batch import Job, find_collisions, plan_job, plan_jobs, refuse_collisions, run_jobs
from retouch_common.inference.names import COMPANION_ENDINGS


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


@contextlib.contextmanager
def as_somebody(folder):
    """Be a user who may not enter ``folder``, root included."""
    folder.chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)


def test_what_may_not_be_read_does_not_stop_the_others():
    with tempfile.TemporaryDirectory() as name:  # others may not enter pytest's
        base = Path(name)
        base.chmod(0o777)
        good, bad = touch(base / "good.png"), touch(base / "closed" / "bad.png")
        # Import first what the other user may not be able to read.
        run_jobs(plan_jobs([good, good], base / "out"), lambda job: "done", overwrite=False, report=str)
        with as_somebody(base / "closed"):
            jobs = plan_jobs([good, bad], base / "out")
            lines = []
            (failure,) = run_jobs(
                jobs, lambda job: "done" if job.source == good else job.source.read_bytes(), overwrite=False,
                report=lines.append,
            )  # fmt: skip
            assert len(lines) == 1 and "bad.png" in failure
            found = plan_jobs([base], base / "out", recursive=True, report=lines.append)
            assert [job.source for job in found] == [good] and "closed: cannot be read" in lines[-1]


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


def test_a_misnamed_photo_gets_the_suffix_of_its_content(make_photo, tmp_path):
    path = make_photo("a.png")[0].rename(tmp_path / "scan.jpg")
    assert plan_jobs([path], tmp_path / "o")[0].target.name == "scan.png"
    assert plan_jobs([path], tmp_path / "o", suffix=".tif")[0].target.name == "scan.tif"
    assert plan_jobs([path], tmp_path / "own.jpg")[0].target.name == "own.jpg"


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


def refusal(job, *, kept=(), overwrite=False):
    with pytest.raises(ValueError) as caught:
        refuse_collisions(job, kept=kept, overwrite=overwrite)
    return str(caught.value)


def test_inputs_are_protected(tmp_path):
    first, second = touch(tmp_path / "a.jpg"), touch(tmp_path / "b.jpg")
    refuse_collisions(Job(first, tmp_path / "new.jpg"))
    refuse_collisions(Job(first, first), overwrite=True)
    assert "the output is the input" in refusal(Job(first, first))
    assert "is another input" in refusal(Job(first, second), kept=[second, Path("missing")], overwrite=True)
    link = tmp_path / "link.jpg"
    link.symlink_to(second)
    assert "is another input" in refusal(Job(first, link), kept=[second], overwrite=True)
    assert "is another input" in refusal(Job(first, tmp_path / "x.jpg", (second,)), kept=[second], overwrite=True)
    assert "is another input" in refusal(Job(first, tmp_path / "c.jpg"), kept=[tmp_path / "." / "c.jpg"])


def test_no_companion_replaces_the_photo(tmp_path):
    source = touch(tmp_path / "b.compare.jpg")
    job = plan_job(source, tmp_path / "b.jpg", [".compare.jpg"])
    assert f"its output {source} is the input" in refusal(job, overwrite=True)


def test_what_is_there_needs_overwrite(tmp_path):
    source, there = touch(tmp_path / "a.jpg"), touch(tmp_path / "o" / "a.mask.png")
    job = plan_job(source, tmp_path / "o" / "a.jpg", [".mask.png"])
    assert f"its output {there} already exists" in refusal(job)
    refuse_collisions(job, overwrite=True)
    dangling = tmp_path / "o" / "b.jpg"
    dangling.symlink_to(tmp_path / "nowhere")
    assert "already exists" in refusal(Job(source, dangling))


def test_companions_get_numbers_too(tmp_path):
    """Of a.jpg and a.png both would become a.compare.jpg, and a.compare.jpg is a photo of its own here."""
    sources = [touch(tmp_path / "in" / name) for name in ("a.jpg", "a.png", "A.webp", "a.compare.jpg")]
    jobs = plan_jobs(sources, tmp_path / "o", endings=[".compare.jpg"])
    assert [job.target.name for job in jobs] == ["a.jpg", "a-2.png", "A-3.webp", "a.compare-2.jpg"]
    outputs = [str(path).lower() for job in jobs for path in job.outputs]
    assert len(set(outputs)) == len(outputs) == 8
    assert not find_collisions(jobs)


def test_jobs_that_share_an_output_are_refused_but_the_first(tmp_path):
    jobs = [Job(touch(tmp_path / name), tmp_path / "o" / "x.png") for name in ("a.jpg", "b.jpg")]
    assert find_collisions(jobs, overwrite=True) == {
        1: f"{jobs[1].source}: its output {jobs[0].target} is that of {jobs[0].source}, too; choose another OUT for one"
    }


def test_a_run_goes_on_after_collisions_and_writes_over_nothing(tmp_path):
    sources = [touch(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "b.jpg").write_bytes(b"kept")
    jobs = plan_jobs(sources, tmp_path / "o")
    for overwrite, kept in ((False, b"kept"), (True, b"new")):
        for name in ("a.jpg", "c.jpg"):
            (tmp_path / "o" / name).unlink(missing_ok=True)
        failures = run_jobs(
            jobs, lambda job: job.target.write_bytes(b"new"), overwrite=overwrite, report=lambda line: None
        )
        assert len(failures) == (not overwrite) and all("b.jpg already exists" in line for line in failures)
        assert [(tmp_path / "o" / name).read_bytes() for name in ("a.jpg", "b.jpg", "c.jpg")] == [b"new", kept, b"new"]


def test_a_file_in_place_of_the_outputs_folder_is_named(tmp_path):
    job = Job(touch(tmp_path / "a.jpg"), touch(tmp_path / "o") / "a.jpg")
    (line,) = run_jobs([job], lambda job: "done", overwrite=False, report=print)
    assert line == f"{job.source}: {tmp_path / 'o'}: Not a directory"


def test_two_photos_are_processed_at_once_and_reported_in_order(tmp_path):
    jobs = plan_jobs([touch(tmp_path / f"{name}.jpg") for name in "abcd"], tmp_path / "o")
    together = threading.Barrier(2, timeout=10)
    lines = []

    def work(job):
        together.wait()
        if job.source.name == "a.jpg":
            time.sleep(0.1)
        return "done"

    threads = torch.get_num_threads()
    assert not run_jobs(jobs, work, overwrite=False, report=lines.append)
    assert [line.split(" -> ")[0] for line in lines] == [str(job.source) for job in jobs]
    assert torch.get_num_threads() == threads


def test_an_interruption_starts_no_further_photo(tmp_path):
    jobs = plan_jobs([touch(tmp_path / f"{number:02}.jpg") for number in range(30)], tmp_path / "o")
    started = []

    def work(job):
        started.append(job)
        time.sleep(0.02)
        return "done"

    def interrupt(line):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, work, overwrite=False, report=interrupt)
    assert len(started) < 6


@pytest.mark.parametrize("ending", COMPANION_ENDINGS)
def test_a_folder_does_not_stand_for_what_commands_wrote_beside_outputs(tmp_path, ending):
    for name in ("a.jpg", f"a{ending}", f"b{ending.upper()}"):
        touch(tmp_path / "in" / name)
    said = []
    jobs = plan_jobs([tmp_path / "in"], tmp_path / "o", report=said.append)
    assert [job.source.name for job in jobs] == ["a.jpg"]
    if ending.endswith("json"):
        assert not said
    else:
        assert len(said) == 1 and f"skipping a{ending} and 1 more" in said[0]
        named = plan_jobs([tmp_path / "in" / f"a{ending}"], tmp_path / "o")
        assert [job.source.name for job in named] == [f"a{ending}"]
