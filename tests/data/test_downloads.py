"""Downloads of logs from a server of the test's own: whole files, errors, the command and the catalogue."""

import dataclasses
import hashlib
import http.server
import io
import re
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest
from kit import cases, refused, said_by, zipped

from rimsim.data import catalogue, download, load
from rimsim.data.downloads import Entry
from rimsim.errors import ConfigError, DataError

_PACKED = io.BytesIO()
with zipfile.ZipFile(_PACKED, "w") as archive:
    archive.writestr("ml/ratings.csv", "userId,movieId,rating,timestamp\n" + "1,2,3,978300760\n" * 20_000)
CONTENT = _PACKED.getvalue()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers each request by the next of the server's ``answers``; the last one stays."""

    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.server.asked.append(self.path)
        answers = self.server.answers
        ANSWERS[answers.pop(0) if len(answers) > 1 else answers[0]](self)


def _send(handler, body, *, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


ANSWERS = {
    "whole": lambda handler: _send(handler, CONTENT),
    "half": lambda handler: _send(handler, CONTENT[: len(CONTENT) // 2], length=len(CONTENT)),
    "portal": lambda handler: _send(handler, b"<html>log in</html>"),
    "other bytes": lambda handler: _send(handler, bytes(len(CONTENT))),
    "endless": lambda handler: _send(handler, CONTENT * 2),
    "silence": lambda handler: time.sleep(1.5),  # longer than the tests wait
    "404": lambda handler: _send(handler, b"no", status=404),
    "500": lambda handler: _send(handler, b"no", status=500),
}


@pytest.fixture
def serve():
    """Starts servers, and stops them after the test."""
    running = []

    def start(*answers):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.answers = list(answers)
        server.asked = []
        server.handle_error = lambda *_: None  # a client that hangs up is part of the tests
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        about = {"name": "made-up", "title": "a made-up log", "users": 1, "items": 1, "events": 20_000}
        url = f"http://127.0.0.1:{server.server_address[1]}/made-up.zip"
        checksum = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
        entry = Entry(**about, url=url, size=len(CONTENT), checksum=checksum, terms="none")
        return server, entry

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_whole_and_loads_and_is_not_fetched_again(serve, tmp_path):
    """What comes back is the server's file, progress ends at its size, nothing else is there; one call is enough."""
    server, entry = serve("whole")
    seen = []
    for _ in range(2):
        path = download(entry, tmp_path / "new", progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert len(load(path)) == 20_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert _names(tmp_path / "new") == ["made-up.zip"]
    assert len(server.asked) == 1


@cases(
    "answer message",
    ("half", "cannot be fetched|something else"),
    ("portal", "did not send a made-up log"),
    ("other bytes", "did not send a made-up log"),
    ("endless", "sent more than the"),
    ("404", "404 Client Error"),
    ("500", "500 Server Error"),
    ("silence", "cannot be fetched to"),
)
def test_a_server_that_does_not_deliver_is_an_error(serve, tmp_path, answer, message):
    """The error says what happened, and no file has the log's name."""
    patience = 0.3 if answer == "silence" else 30.0
    refused(DataError, message, download, serve(answer)[1], tmp_path, patience=patience)
    assert _names(tmp_path) == []


def test_a_folder_or_server_that_is_not_there_is_an_error(serve, tmp_path):
    """A file where the folder should be, and no server at all, are errors of ours too."""
    server, entry = serve("whole")
    (tmp_path / "file").write_text("")
    refused(DataError, "cannot be fetched to", download, entry, tmp_path / "file")
    server.shutdown()
    server.server_close()
    refused(DataError, "cannot be fetched", download, entry, tmp_path)


def test_names_that_are_unknown_embedded_or_not_here_yet_are_refused(tmp_path, monkeypatch, capsys):
    """An unknown name gets the nearest one, the embedded log needs no download, and loading never fetches by itself."""
    monkeypatch.setenv("RIMSIM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    refused(ConfigError, r"Did you mean 'ml-10m'|Did you mean 'ml-1m'", download, "ml-1om")
    refused(DataError, "is part of rimsim", download, "ml-latest-small")
    refused(DataError, r"not on this machine yet.*rimsim data download ml-1m.*fetches 6 MB", load, "ml-1m")
    for name, message in (
        ("ml-1om", "no log is known as 'ml-1om'"),
        ("ml-latest-small", "is part of rimsim"),
    ):
        assert message in said_by(capsys, f"data download {name}", 2).err


@pytest.fixture
def fetch(monkeypatch, capsys):
    """What the command says with a catalogue of one log, and a folder for logs."""

    def run(entry, folder, *options, status=0):
        monkeypatch.setattr(sys.modules["rimsim.data.downloads"], "_KNOWN", (entry,))
        monkeypatch.setenv("RIMSIM_DATA", str(folder))
        return said_by(capsys, ["data", "download", entry.name, *options], status)

    return run


def test_the_command_fetches_and_shows_how_far_it_is(serve, fetch, tmp_path, monkeypatch):
    """The bar ends at the whole file, the path is printed, and the log then goes by its name."""
    server, entry = serve("whole")
    output = fetch(entry, tmp_path).out
    assert (tmp_path / "made-up.zip").read_bytes() == CONTENT
    assert f"saved to {tmp_path / 'made-up.zip'}" in output
    kilobytes = f"{len(CONTENT) / 1000:.1f}"
    assert f"{kilobytes}/{kilobytes} kB" in output
    monkeypatch.chdir(tmp_path.parent)
    assert len(load("made-up")) == 20_000
    output = fetch(entry, tmp_path).out
    assert "kB" not in output
    assert "saved to" in output
    assert len(server.asked) == 1


def test_the_command_takes_a_folder_and_says_what_broke(serve, fetch, tmp_path):
    """A refusal ends in one sentence and status 2; the same command again fetches the file into the folder."""
    _, entry = serve("404", "whole")
    folder = tmp_path / "there"
    (message,) = fetch(entry, tmp_path, "--folder", str(folder), status=2).err.splitlines()
    assert message.startswith(f"rimsim: {entry.url}: cannot be fetched to {folder} (404 Client Error")
    assert _names(folder) == []
    fetch(entry, tmp_path, "--folder", str(folder))
    assert (folder / "made-up.zip").read_bytes() == CONTENT


def test_the_catalogue_is_sound():
    """Names are distinct, terms are stated, and what can be fetched has an address; a size goes with a digest."""
    entries = catalogue()
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert ("GroupLens" in entry.terms) == entry.name.startswith("ml-")
        assert entry.terms
        assert entry.name in entry.text()
        if entry.url is not None:
            assert entry.url.startswith("https://")
            assert re.fullmatch(r"|md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", entry.checksum)
            assert (entry.size > 10**6) == bool(entry.checksum)
    unchecked = {entry.name for entry in entries if entry.url is not None and not entry.checksum}
    assert unchecked == {"retailrocket", "globo", "piki-music"}


def test_a_file_without_a_published_digest_is_fetched_and_its_digest_is_printed(serve, fetch, tmp_path):
    """The command says that nothing was checked, and prints a digest with which a later file can be compared."""
    server, entry = serve("whole")
    entry = dataclasses.replace(entry, checksum="", size=0, terms="for tests")
    output = fetch(entry, tmp_path).out
    assert (tmp_path / "made-up.zip").read_bytes() == CONTENT
    assert f"sha256:{hashlib.sha256(CONTENT).hexdigest()} (no published digest is known" in output
    assert "terms: for tests" in output
    fetch(entry, tmp_path)
    assert len(server.asked) == 1
    assert "a file of unknown size to fetch" in entry.text()


def test_a_file_of_unknown_size_may_not_fill_the_disk(serve, tmp_path, monkeypatch):
    """A download without a known size ends at a limit, and leaves nothing."""
    _, entry = serve("whole")
    monkeypatch.setattr(sys.modules["rimsim.data.downloads"], "LARGEST_FILE", len(CONTENT) - 1)
    entry = dataclasses.replace(entry, checksum="", size=0)
    refused(DataError, "sent more than the expected", download, entry, tmp_path)
    assert _names(tmp_path) == []


CLICKS = "video_id,user_id,time_ms,is_click,date\n"


@pytest.fixture
def archive_of(monkeypatch, tmp_path):
    """Puts an archive of a log into the folder of downloads, under an entry like those of the catalogue."""

    def put(ending, files):
        path = tmp_path / f"made-up{ending}"
        if ending == ".zip":
            zipped(path, *files.items())
        else:
            with tarfile.open(path, "w:gz") as archive:
                for name, text in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(text)
                    archive.addfile(member, io.BytesIO(text.encode()))
        entry = Entry(
            *("made-up", "a made-up log", 2, 3, 4),
            url="https://example.org/made-up",
            size=0,
            checksum="",
            terms="none",
            ending=ending,
            events_files=r"log_standard_.+\.csv",
            columns="user=user_id,item=video_id,time=time_ms,taken=is_click",
        )
        monkeypatch.setattr(sys.modules["rimsim.data.downloads"], "_KNOWN", (entry,))
        monkeypatch.setenv("RIMSIM_DATA", str(tmp_path))
        (tmp_path / "elsewhere").mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / "elsewhere")
        return path

    return put


@pytest.mark.parametrize("ending", [".zip", ".tar.gz"])
def test_a_download_of_several_files_is_one_log(archive_of, ending):
    """Files that match the pattern are read together with the entry's columns, in any folder; others are left alone."""
    archive_of(
        ending,
        {
            "made/data/log_standard_a.csv": f"{CLICKS}7,1,1600000002000,1,20200913\n7,2,1600000003000,0,20200913\n",
            "made/data/log_standard_b.csv": f"{CLICKS}9,1,1600000001000,1,20200913\n8,1,1600000004000,0,20200913\n",
            "made/data/log_random_c.csv": f"{CLICKS}5,5,1600000004000,0,20200913\n",
            "made/load_data.py": "print()",
        },
    )
    log = load("made-up")
    assert log.time.tolist() == [1.600000001e9, 1.600000002e9]
    assert log.items["id"].tolist() == [7, 9]
    assert log.item.tolist() == [1, 0]
    assert log.impressions.rate == 2 / 3  # item 8 was never taken, so it is not in the catalogue
    shown = load("made-up", columns="user=user_id,item=video_id,time=time_ms,value=is_click")
    assert shown.items["id"].tolist() == [7, 8, 9]
    assert shown.item.tolist() == [2, 0, 0, 1]
    assert shown.value.tolist() == [1, 1, 0, 0]
    assert len(load("made-up", columns="user=user_id,item=date,time=time_ms").items) == 1


def test_a_download_without_its_events_names_what_it_holds(archive_of):
    """An archive that changed its files is refused by the pattern that was looked for."""
    archive_of(".zip", {"made/clicks.csv": CLICKS})
    refused(DataError, r"no events file of made-up in it, only made/clicks.csv", load, "made-up")


def test_a_folder_of_a_known_name_is_read_instead_of_the_download(archive_of):
    """A path in the working folder is what its user means, with its own columns."""
    archive_of(".zip", {"made/log_standard_a.csv": f"{CLICKS}7,1,1600000002000,1,20200913\n"})
    Path("made-up").mkdir()
    Path("made-up/log.csv").write_text("user,item,time\na,b,5\na,c,6\n")
    assert load("made-up").items["id"].tolist() == ["b", "c"]
