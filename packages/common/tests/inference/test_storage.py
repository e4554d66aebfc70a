"""Photographs and outputs in object storage, as servers of S3 and Google Cloud Storage on this machine keep them."""

import io
import socket
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from many_runs import draw, run, table
from PIL import Image
from pyarrow import Table, parquet
from pyarrow.fs import FileSelector, FileSystem, FileType
from retouch_common.inference import manifest, storage
from retouch_common.inference.batch import plan_job
from retouch_common.inference.manifest import read_manifest
from retouch_common.inference.storage import output_folder
from retouch_common.inference.workers import Task, Work, process_task


@pytest.fixture(scope="module")
def s3_server():
    moto_server = pytest.importorskip("moto.server", reason="an S3 server on this machine needs moto[s3], flask")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield quote(f"{host}:{port}")
    server.stop()


@pytest.fixture(scope="module")
def gs_server():
    reason = "a Google Cloud Storage server on this machine needs gcp-storage-emulator"
    emulator = pytest.importorskip("gcp_storage_emulator.server", reason=reason)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True)
    server.start()
    yield quote(f"127.0.0.1:{port}")
    server.stop()


class Bucket:
    """A bucket of a server on this machine."""

    def __init__(self, scheme, user, name, options):
        self.root, self.name, self.options = f"{scheme}://{user}{name}", name, options
        creation = "&allow_bucket_creation=true" if scheme == "s3" else "&project_id=testing"
        self.files, _ = FileSystem.from_uri(f"{self.root}?{options}{creation}")
        self.files.create_dir(name)

    def url(self, key):
        return f"{self.root}/{quote(key)}?{self.options}"

    def put(self, folder, below):
        for path in sorted(folder.iterdir()):
            with self.files.open_output_stream(f"{self.name}/{below}/{path.name}") as stream:
                stream.write(path.read_bytes())

    def contents(self, below):
        infos = self.files.get_file_info(FileSelector(f"{self.name}/{below}", recursive=True, allow_not_found=True))
        return {
            info.path.removeprefix(f"{self.name}/{below}/"): self.files.open_input_stream(info.path).read()
            for info in infos
            if info.type == FileType.File
        }


@pytest.fixture(params=["s3", "gs"])
def bucket(request, tmp_path, monkeypatch):
    server = request.getfixturevalue(f"{request.param}_server")
    name = tmp_path.name.replace("_", "-").replace("[", "-").replace("]", "").lower()
    options = f"scheme=http&endpoint_override={server}"
    if request.param == "gs":
        return Bucket("gs", "anonymous@", name, f"{options}&retry_limit_seconds=5")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    return Bucket("s3", "", name, f"region=us-east-1&{options}")


def test_photographs_go_from_storage_to_storage(tmp_path, bucket):
    from drawn_work import lighten

    work = lighten(provenance=False)  # the time is in the history
    draw(tmp_path / "in", 4)
    draw(tmp_path / "in", 1, prefix="sp ace")
    (tmp_path / "in" / "text.png").write_text("no photograph")
    bucket.put(tmp_path / "in", "in")
    arguments = {"manifest": bucket.url("in"), "out": bucket.url("out"), "work": work}
    totals, (failure,) = run(tmp_path, workers=2, **arguments)
    assert totals == (5, 0, 1) and failure.startswith(bucket.url("in/text.png"))
    there = bucket.contents("out")
    assert sorted(there) == ["photo000.png", "photo001.png", "photo002.png", "photo003.png", "sp ace000.png"]
    row = next(row for name, row in table(tmp_path).items() if name.startswith("sp%20ace"))
    assert (row["status"], row["output"]) == ("done", bucket.url("out/sp ace000.png"))

    bucket.files.delete_file(f"{bucket.name}/out/photo001.png")
    assert run(tmp_path, **arguments)[0] == (1, 5, 1)  # what is there is not done again
    assert bucket.contents("out") == there
    assert not list(Path(tmp_path / "out").glob("*"))

    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "in").rename(here / "in")
    run(here, work=work)
    assert {path.name: path.read_bytes() for path in (here / "out").iterdir()} == there  # as on this machine


def test_objects_that_no_run_wrote_are_kept(tmp_path, bucket):
    draw(tmp_path / "in", 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo001.png").write_text("mine")
    bucket.put(tmp_path / "mine", "out")
    totals, (failure,) = run(tmp_path, out=bucket.url("out"))
    assert totals == (1, 0, 1) and "photo001.png" in failure and "already exists" in failure
    assert bucket.contents("out")["photo001.png"] == b"mine"
    assert run(tmp_path, out=bucket.url("out"), only_failed=True, overwrite=True)[0] == (1, 1, 0)
    assert Image.open(io.BytesIO(bucket.contents("out")["photo001.png"])).size == (40, 32)


@pytest.mark.parametrize("suffix", ["txt", "parquet"])
def test_objects_are_not_replaced_by_their_own_outputs(tmp_path, bucket, suffix):
    draw(tmp_path / "in", 2)
    if suffix == "txt":
        (tmp_path / "in" / "list.txt").write_text("photo000.png\nphoto001.png\n")
    else:
        parquet.write_table(Table.from_pydict({"path": ["photo000.png", "photo001.png"]}), tmp_path / "in/list.parquet")
    bucket.put(tmp_path / "in", "in")
    before = bucket.contents("in")
    totals, failures = run(tmp_path, manifest=bucket.url(f"in/list.{suffix}"), out=bucket.url("in"), overwrite=True)
    assert totals == (0, 0, 2) and all("the output is the input" in line for line in failures)
    assert bucket.contents("in") == before


def test_outputs_below_the_input_are_not_inputs(tmp_path, bucket):
    draw(tmp_path / "in", 2)
    bucket.put(tmp_path / "in", "in")
    bucket.put(tmp_path / "in", "in/out")
    entries = read_manifest(bucket.url("in"), output_folder(Path(bucket.url("in/out"))).path, recursive=True)
    assert [entry.relative for entry in entries] == ["photo000.png", "photo001.png"]


def test_a_bucket_that_is_not_there_is_named(tmp_path, bucket):
    draw(tmp_path / "in", 1)
    totals, (failure,) = run(tmp_path, out=bucket.url("out").replace(bucket.name, "no-such-bucket"))
    assert totals == (0, 0, 1) and "photo000.png" in failure
    assert "no-such-bucket" in failure or "NOT_FOUND" in failure


@pytest.fixture
def silent_port():
    """A port at which connections are accepted, and nothing is answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return port


def test_storage_that_does_not_answer_delays_a_list_and_does_not_stop_it(
    tmp_path, monkeypatch, silent_port, closed_port
):
    """pyarrow tries for 100 s at S3, and for 15 minutes at Google Cloud Storage."""
    monkeypatch.setattr(storage, "TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(storage, "RETRY_SECONDS", 1)
    monkeypatch.setattr(manifest, "_PATIENCE", 0)
    draw(tmp_path, 1)
    at = "scheme=http&endpoint_override=127.0.0.1%3A"
    urls = [
        *(f"s3://id:secret@bucket/{name}.png?region=us-east-1&{at}{silent_port}" for name in "abc"),
        *(f"gs://anonymous@bucket/{name}.png?{at}{closed_port}" for name in "de"),
    ]
    (tmp_path / "list.txt").write_text("\n".join([*urls, "photo000.png"]))
    began = time.monotonic()
    totals, failures = run(tmp_path, manifest=tmp_path / "list.txt")
    assert totals == (1, 0, len(urls)) and (tmp_path / "out" / "photo000.png").exists()
    assert [line.split(": cannot be opened: ")[0] for line in failures] == urls
    assert all("\n" not in line and len(line) < 500 for line in failures)
    assert time.monotonic() - began < 60


def test_a_photo_of_storage_that_stops_to_answer_fails(tmp_path, monkeypatch, silent_port):
    monkeypatch.setattr(storage, "TIMEOUT_SECONDS", 1)
    url = f"s3://id:secret@bucket/a.png?region=us-east-2&scheme=http&endpoint_override=127.0.0.1%3A{silent_port}"
    task = Task(url, plan_job(storage.storage_path(url), tmp_path / "out.png"), output_folder(tmp_path))
    outcome = process_task(Work(lambda job: None, None), task)
    assert outcome.reason.startswith(f"{url}: cannot be opened: ") and outcome.seconds < 20


def test_a_failure_names_the_output_in_storage_and_not_its_local_copy(tmp_path):
    photo = tmp_path / "a.png"
    out = output_folder(Path("s3:/bucket/out"))

    def refuse(job):
        raise ValueError(f"{job.target}: the photo has 16 bits per channel and JPEG holds 8")

    outcome = process_task(Work(refuse, None), Task(str(photo), plan_job(photo, out.path / "a.jpg"), out))
    assert outcome.reason == f"{photo}: s3://bucket/out/a.jpg: the photo has 16 bits per channel and JPEG holds 8"
