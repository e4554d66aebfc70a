"""Runs over many photographs in worker processes, with a command's work that lightens them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from many_runs import contents, draw, planned, run, table
from PIL import Image
from pyarrow import parquet
from retouch_common.inference import workers
from retouch_common.inference.workers import run_in_workers

HERE = Path(__file__).parent


def test_the_table_says_what_became_of_every_photograph(tmp_path):
    draw(tmp_path / "in", 3)
    (tmp_path / "in" / "text.png").write_text("no photograph")
    totals, failures = run(tmp_path)
    assert totals == (3, 0, 1)
    (failure,) = failures
    rows = table(tmp_path)
    assert sorted(rows) == ["photo000.png", "photo001.png", "photo002.png", "text.png"]
    row = rows["photo000.png"]
    assert (row["status"], row["reason"], row["faces"], row["weights"]) == ("done", None, 1, "weights 50")
    assert row["changed"] == 0.25  # the upper quarter
    assert row["seconds"] > 0
    assert row["size"] == (tmp_path / "in" / "photo000.png").stat().st_size
    assert (rows["text.png"]["status"], rows["text.png"]["reason"]) == ("failed", failure)
    assert "text.png" in failure
    assert sorted(contents(tmp_path / "out")) == ["photo000.png", "photo001.png", "photo002.png"]
    assert not list(tmp_path.glob("*.journal"))


def test_only_what_is_missing_or_has_changed_is_done_again(tmp_path):
    from drawn_work import lighten

    draw(tmp_path / "in", 4)
    (tmp_path / "in" / "text.png").write_text("no photograph")
    assert run(tmp_path)[0] == (4, 0, 1)
    assert run(tmp_path)[0] == (0, 5, 1)  # the failure is not tried again
    draw(tmp_path / "in", 1, prefix="new")
    (tmp_path / "out" / "photo001.png").unlink()
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "photo002.png")
    assert run(tmp_path)[0] == (3, 3, 1)
    assert Image.open(tmp_path / "out" / "photo002.png").size == (32, 32)
    assert run(tmp_path, work=lighten(20))[0] == (5, 0, 1)  # other settings; replaces its own outputs
    assert {row["weights"] for row in table(tmp_path).values() if row["status"] == "done"} == {"weights 20"}


def test_retry_tries_failures_only(tmp_path):
    draw(tmp_path / "in", 2)
    (tmp_path / "in" / "late.png").write_text("no photograph")
    run(tmp_path)
    draw(tmp_path / "in", 1, prefix="new")
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "late.png")
    assert run(tmp_path, only_failed=True)[0] == (1, 3, 0)
    assert table(tmp_path)["late.png"]["status"] == "done"
    assert "new000.png" not in table(tmp_path)


def test_files_that_no_run_wrote_are_kept(tmp_path):
    draw(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo000.png").write_text("mine")
    totals, (failure,) = run(tmp_path)
    assert totals == (1, 0, 1)
    assert "already exists" in failure
    assert run(tmp_path, only_failed=True)[0] == (0, 1, 1)  # a failure does not make it the run's own
    assert (tmp_path / "out" / "photo000.png").read_text() == "mine"
    assert run(tmp_path, only_failed=True, overwrite=True)[0] == (1, 1, 0)


def test_a_file_put_where_a_failed_photograph_wrote_nothing_is_kept(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "late.png").write_text("no photograph")
    assert run(tmp_path)[0] == (0, 0, 1)
    assert table(tmp_path)["late.png"]["output"] is None
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "late.png").write_text("mine")
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "late.png")
    totals, (failure,) = run(tmp_path)
    assert totals == (0, 0, 1) and "already exists" in failure
    assert (tmp_path / "out" / "late.png").read_text() == "mine"


def test_workers_use_one_thread_of_libvips():
    script = (
        "from retouch_common.inference.workers import _prepare; _prepare(); "
        "import pyvips; print(pyvips.vips_lib.vips_concurrency_get())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_the_working_folder_does_not_matter(tmp_path, monkeypatch):
    draw(tmp_path / "in", 2)
    monkeypatch.chdir(tmp_path)
    assert run(Path("."), manifest="in")[0] == (2, 0, 0)
    (tmp_path / "in" / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "in" / "elsewhere")
    assert run(tmp_path)[0] == (0, 2, 0)
    assert table(tmp_path)["photo000.png"]["output"] == str(tmp_path / "out" / "photo000.png")


def test_a_refusal_says_what_helps_and_keeps_what_is_known_of_the_output(tmp_path):
    draw(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "photo000.png").write_text("mine")
    _, (failure,) = run(tmp_path)
    assert "--retry failed --overwrite replaces it" in failure
    assert run(tmp_path, only_failed=True, overwrite=True)[0] == (1, 0, 0)
    (tmp_path / "list.txt").write_text("in/photo000.png\n")
    draw(tmp_path / "in", 1, prefix="other")
    (tmp_path / "in" / "photo000.png").unlink()
    assert run(tmp_path, manifest=tmp_path / "list.txt")[0] == (0, 0, 1)
    assert table(tmp_path)["photo000.png"]["output"] == str(tmp_path / "out" / "photo000.png")


def test_a_photograph_never_replaces_the_output_of_another_that_is_done(tmp_path):
    """x.png and, added later, x.jpg, both written as x.jpg."""
    draw(tmp_path / "in", 1)
    assert run(tmp_path, suffix=".jpg")[0] == (1, 0, 0)
    before = contents(tmp_path / "out")
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "photo000.jpg")
    for again in ({}, {"only_failed": True, "overwrite": True}):
        totals, (failure,) = run(tmp_path, suffix=".jpg", **again)
        assert totals == (0, 1, 1) and "is that of" in failure and "photo000.png, too" in failure
        assert contents(tmp_path / "out") == before


def test_photographs_whose_names_differ_in_case_only_are_told_so(tmp_path):
    draw(tmp_path / "in", 1)
    draw(tmp_path / "in", 1, prefix="PHOTO")
    if len(list((tmp_path / "in").iterdir())) < 2:
        pytest.skip("the file system does not tell them apart")
    totals, (failure,) = run(tmp_path)
    assert totals == (1, 0, 1) and "photo000.png: its output" in failure
    assert f"differs in case only from that of {tmp_path / 'in' / 'PHOTO000.png'}" in failure


def test_a_photograph_that_never_had_an_output_does_not_hold_one_back(tmp_path):
    """x.png and x.jpg, of which the first was done and is then changed."""
    draw(tmp_path / "in", 1)
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "photo000.jpg")
    (tmp_path / "list.txt").write_text("in/photo000.png\nin/photo000.jpg\n")
    options = {"manifest": tmp_path / "list.txt", "suffix": ".tif"}
    assert run(tmp_path, **options)[0] == (1, 0, 1)
    Image.new("RGB", (48, 48)).save(tmp_path / "in" / "photo000.png")
    assert run(tmp_path, **options)[0] == (1, 1, 1)
    assert table(tmp_path)["photo000.png"]["status"] == "done"


def test_companions_of_others_are_not_replaced_even_with_overwrite(tmp_path):
    draw(tmp_path / "in", 1)
    (tmp_path / "list.txt").write_text("in/photo000.png\n")
    options = {"manifest": tmp_path / "list.txt", "endings": (".mask.png",)}
    assert run(tmp_path, **options)[0] == (1, 0, 0)
    mine = tmp_path / "out" / "in" / "photo000.mask.png"
    mine.write_text("the mask of photo000")
    draw(tmp_path / "in", 1, prefix="other").joinpath("other000.png").rename(tmp_path / "in" / "photo000.mask.png")
    (tmp_path / "list.txt").write_text("in/photo000.png\nin/photo000.mask.png\n")
    totals, (failure,) = run(tmp_path, **options, overwrite=True)
    assert totals == (0, 1, 1) and "is that of" in failure
    assert mine.read_text() == "the mask of photo000"


def test_tables_that_do_not_name_companions_are_read(tmp_path):
    draw(tmp_path / "in", 1)
    assert run(tmp_path, endings=(".compare.jpg",))[0] == (1, 0, 0)
    (tmp_path / "out" / "photo000.compare.jpg").write_text("the run's own")
    old = parquet.read_table(tmp_path / "results.parquet").drop_columns("companions")
    parquet.write_table(old, tmp_path / "results.parquet")
    assert run(tmp_path, endings=(".compare.jpg",))[0] == (0, 1, 0)
    assert run(tmp_path, endings=(".compare.jpg",), keep_times=True)[0] == (1, 0, 0)  # other settings


def test_companions_that_no_run_wrote_are_kept(tmp_path):
    draw(tmp_path / "in", 1)
    assert run(tmp_path)[0] == (1, 0, 0)
    assert table(tmp_path)["photo000.png"]["companions"] == []
    mine = tmp_path / "out" / "photo000.compare.jpg"
    mine.write_text("mine")
    totals, (failure,) = run(tmp_path, endings=(".compare.jpg",), keep_times=True)  # other settings: it is due
    assert totals == (0, 0, 1) and "photo000.compare.jpg already exists" in failure
    assert mine.read_text() == "mine"
    mine.unlink()
    assert run(tmp_path, endings=(".compare.jpg",), only_failed=True)[0] == (1, 0, 0)
    mine.write_text("the run's own")
    assert table(tmp_path)["photo000.png"]["companions"] == [str(mine)]
    assert run(tmp_path, endings=(".compare.jpg",), keep_times=True)[0] == (1, 0, 0)


def test_a_file_that_is_no_table_leaves_no_journal(tmp_path):
    draw(tmp_path / "in", 1)
    (tmp_path / "results.parquet").write_text("mine")
    with pytest.raises(ValueError, match="choose another file"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "results.parquet"]


def test_inputs_are_never_replaced(tmp_path):
    draw(tmp_path / "in", 2)
    (tmp_path / "list.txt").write_text("in/photo000.png\nin/photo001.png\n")
    before = contents(tmp_path / "in")
    totals, failures = run(tmp_path, manifest=tmp_path / "list.txt", out=".", overwrite=True)
    assert totals == (0, 0, 2)
    assert all("the output is the input" in line for line in failures)
    assert contents(tmp_path / "in") == before


def test_a_poisonous_file_is_tried_twice_and_nothing_else_is_lost(tmp_path):
    draw(tmp_path / "in", 6)
    (tmp_path / "in" / "photo003.png").rename(tmp_path / "in" / "photo003 poison.png")
    totals, failures = run(tmp_path, workers=2)
    assert totals == (5, 0, 1)
    assert "photo003 poison.png: its worker process died 2 times" in failures[0]
    assert len(contents(tmp_path / "out")) == 5


def test_a_photograph_whose_worker_was_killed_is_done_by_another(tmp_path):
    from drawn_work import lighten

    draw(tmp_path / "in", 3)
    draw(tmp_path / "in", 2, prefix="deadly")
    (tmp_path / "seen").mkdir()
    assert run(tmp_path, work=lighten(once=str(tmp_path / "seen")))[0] == (5, 0, 0)
    assert len(contents(tmp_path / "seen")) == 2  # both did kill their worker


def test_a_photograph_whose_worker_was_killed_waits_for_one_that_works(tmp_path):
    """One that dies while it starts would cost the photograph its second attempt."""
    from drawn_work import lighten

    (tmp_path / "seen").mkdir()
    draw(tmp_path / "in", 2)
    draw(tmp_path / "in", 1, prefix="deadly")
    tasks = planned(tmp_path / "in", tmp_path / "out")
    outcomes = list(run_in_workers(lighten(once=str(tmp_path / "seen")), tasks, 1))
    assert [Path(task.path).stem for task, _ in outcomes] == ["photo000", "deadly000", "photo001"]
    assert not any(outcome.reason for _, outcome in outcomes)


SCRIPT = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background processes ignore it
sys.path.insert(0, {here!r})
if __name__ == "__main__":
    from drawn_work import lighten
    import many_runs
    print(many_runs.run(Path({root!r}), work=lighten(seconds=0.1), workers=2), flush=True)
"""


def started(root, script):
    script.write_text(SCRIPT.format(here=str(HERE), root=str(root)))
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_workers_killed_and_a_run_killed_in_the_middle_lose_nothing(tmp_path):
    from drawn_work import lighten

    draw(tmp_path / "in", 24)
    journal = tmp_path / "results.parquet.journal"
    process = started(tmp_path, tmp_path / "run.py")

    def done():
        return journal.read_text().count('"done"') if journal.exists() else 0

    def workers():
        return [p for p in psutil.Process(process.pid).children() if "spawn_main" in " ".join(p.cmdline())]

    wait_for(lambda: done() >= 4)
    workers()[0].kill()
    wait_for(lambda: done() >= 10)
    orphans = workers()
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(orphans, timeout=10)
    assert not alive  # workers end with their parent
    finished = done()
    assert finished >= 10
    totals, failures = run(tmp_path, work=lighten(seconds=0.1))
    assert (totals[0] + totals[1], totals[2], failures) == (24, 0, [])
    assert totals[1] == finished  # what the killed run finished is not done again
    assert len(contents(tmp_path / "out")) == 24
    assert {row["status"] for row in table(tmp_path).values()} == {"done"}


def test_a_run_that_is_asked_to_stop_writes_its_table(tmp_path):
    draw(tmp_path / "in", 40)
    script = tmp_path / "run.py"
    process = started(tmp_path, script)
    wait_for(lambda: len(list((tmp_path / "out").glob("photo*.png"))) >= 3)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    statuses = [row["status"] for row in table(tmp_path).values()]
    assert 1 <= statuses.count("done") < 40  # of two workers, the last photographs may not be noted yet
    assert set(statuses) <= {"done", "started"}
    assert not list((tmp_path / "out").glob(".retouch-writing-*"))


def test_two_runs_into_one_table_are_refused(tmp_path):
    from retouch_common.inference.results import open_results

    draw(tmp_path / "in", 1)
    with open_results(tmp_path / "results.parquet"), pytest.raises(ValueError, match="in use by another process"):
        run(tmp_path)


@pytest.mark.parametrize("content", ["text", "other columns"])
def test_a_file_that_is_no_results_table_is_kept(tmp_path, content):
    draw(tmp_path / "in", 1)
    path = tmp_path / "results.parquet"
    if content == "text":
        path.write_text("mine")
    else:
        parquet.write_table(pa.table({"path": ["a.png"]}), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"results\.parquet: .*choose another file"):
        run(tmp_path)
    assert path.read_bytes() == before


def test_without_a_network_the_run_ends_at_once(tmp_path):
    from drawn_work import lighten

    draw(tmp_path / "in", 1)
    with pytest.raises(TypeError, match="unknown"):
        run(tmp_path, work=lighten(unknown=1))
    assert not (tmp_path / "results.parquet").exists()


def test_identical_files_with_one_and_two_workers(tmp_path):
    from drawn_work import lighten

    draw(tmp_path / "in", 8)
    work = lighten(provenance=False)  # the time is in the history
    run(tmp_path, work=work, workers=1)
    run(tmp_path, work=work, workers=2, out="two")
    assert contents(tmp_path / "out") == contents(tmp_path / "two")


def test_photographs_of_object_storage_are_fetched(tmp_path):
    """By URLs of pyarrow's filesystems; these lead to a folder here."""
    draw(tmp_path / "in", 2)
    (tmp_path / "in" / "text.png").write_text("no photograph")
    urls = [f"file://{tmp_path}/in/{name}.png" for name in ("photo000", "photo001", "text", "gone")]
    (tmp_path / "list.txt").write_text("\n".join(urls))
    totals, failures = run(tmp_path, manifest=tmp_path / "list.txt")
    assert totals == (2, 0, 2)
    assert {line.partition(".png: ")[0] + ".png" for line in failures} == set(urls[2:])
    assert f"{urls[3]}: no such file" in failures
    below = tmp_path / "out" / str(tmp_path).lstrip("/") / "in"
    assert sorted(contents(below)) == ["photo000.png", "photo001.png"]
    assert run(tmp_path, manifest=tmp_path / "list.txt")[0] == (0, 4, 2)


def test_no_more_workers_are_started_than_have_memory(tmp_path, monkeypatch):
    """A container's limit counts where it is less than the machine's memory."""
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(workers, "CGROUP_LIMIT", limit)
    monkeypatch.setattr(workers.os, "sysconf", {"SC_PHYS_PAGES": 2_000_000, "SC_PAGE_SIZE": 4096}.get, raising=False)
    assert workers.default_workers() == 5
    for text, count in (("max\n", 5), ("3000000000\n", 2), ("1000000\n", 1)):
        limit.write_text(text)
        assert workers.default_workers() == count


def test_a_photograph_costs_the_table_0_1_ms_twice_and_5_kb(tmp_path):
    """What docs/guides/many_photographs.md says; in a process of its own, whose memory nothing else uses."""
    script = """
import sys, time
from pathlib import Path
import psutil
import pyarrow.parquet
from retouch_common.inference.results import Result, open_results

def resident():
    return psutil.Process().memory_info().rss

def row(number):
    path = f"s3://archive/2026/{number % 100:03}/IMG_{number:08}.jpg"
    known = {"version": "0.1.0", "weights": "%064d" % number, "size": number, "modified": number, "companions": []}
    return Result(path, "done", None, 1, 0.01, 0.86, path + ".retouched.jpg", settings="%064d" % number, **known)

count, before, recording = 30_000, resident(), 0.0
with open_results(Path(sys.argv[1])) as table:
    for number in range(count):
        result = row(number)
        start = time.process_time()
        table.record(result)
        recording += time.process_time() - start
    rows = resident() - before
print((rows + pyarrow.default_memory_pool().max_memory()) / count, 1000 * recording / count)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "results.parquet")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    held, milliseconds = map(float, printed.split())
    assert 200 < held < 5000 and milliseconds < 0.1, printed
