"""Downloads from a server that tells the truth, breaks off, is silent, lies, goes on for ever or refuses."""

import hashlib
import http.server
import io
import sys
import threading
import time
import zipfile

import pytest
from kit import cases, refused

from rimsim.data import catalogue, download, load
from rimsim.data.downloads import Entry
from rimsim.errors import ConfigError, DataError
from rimsim.scenarios.cli.main import main


def _content():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ml/ratings.csv", "userId,movieId,rating,timestamp\n" + "1,2,3,978300760\n" * 20_000)
    return packed.getvalue()


CONTENT = _content()


class _Server(http.server.ThreadingHTTPServer):
    """Answers each request by the next of ``answers``; the last one stays."""

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = [ANSWERS[answer] for answer in answers]
        self.asked = []

    def handle_error(self, *_):
        """A client that hangs up is part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        """Quiet."""

    def do_GET(self):
        self.server.asked.append(self.path)
        answers = self.server.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self)


def _send(handler, body, *, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def _silence(handler):
    time.sleep(1.5)  # longer than the tests wait
    handler.close_connection = True


ANSWERS = {
    "whole": lambda handler: _send(handler, CONTENT),
    "half": lambda handler: _send(handler, CONTENT[: len(CONTENT) // 2], length=len(CONTENT)),
    "portal": lambda handler: _send(handler, b"<html>log in</html>"),
    "other bytes": lambda handler: _send(handler, bytes(len(CONTENT))),
    "endless": lambda handler: _send(handler, CONTENT * 2),
    "silence": _silence,
    "404": lambda handler: _send(handler, b"no", status=404),
    "500": lambda handler: _send(handler, b"no", status=500),
}


@pytest.fixture
def serve():
    """Starts servers, and stops them after the test."""
    running = []

    def start(*answers):
        server = _Server(answers)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        about = {"name": "made-up", "title": "a made-up log", "users": 1, "items": 1, "events": 20_000}
        url = f"http://127.0.0.1:{server.server_address[1]}/made-up.zip"
        checksum = f"md5:{hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()}"
        known = Entry(**about, url=url, size=len(CONTENT), checksum=checksum, terms="none")
        return server, known

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_download_is_whole_and_loads_and_is_not_fetched_again(serve, tmp_path):
    """What comes back is the server's file, progress ends at its size, nothing else is there; one call is enough."""
    server, known = serve("whole")
    seen = []
    for _ in range(2):
        path = download(known, tmp_path / "new", progress=lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == CONTENT
    assert len(load(path)) == 20_000
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert _names(tmp_path / "new") == ["made-up.zip"]
    assert len(server.asked) == 1


@cases(
    "answer message",
    ("half", "cannot be fetched|something else"),
    ("portal", "sent something else than a made-up log"),
    ("other bytes", "sent something else than a made-up log"),
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
    server, known = serve("whole")
    (tmp_path / "file").write_text("")
    refused(DataError, "cannot be fetched to", download, known, tmp_path / "file")
    server.shutdown()
    server.server_close()
    refused(DataError, "cannot be fetched", download, known, tmp_path)


def test_names_that_are_unknown_embedded_or_not_here_yet_are_refused(tmp_path, monkeypatch, capsys):
    """An unknown name gets the nearest one, the embedded log needs no download, and loading never fetches by itself."""
    monkeypatch.setenv("RIMSIM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    refused(ConfigError, r"Did you mean 'ml-10m'|Did you mean 'ml-1m'", download, "ml-1om")
    refused(DataError, "ships with rimsim", download, "ml-latest-small")
    refused(DataError, r"not here yet; .*rimsim data download ml-1m, fetches 6 MB", load, "ml-1m")
    for name, told in (("ml-1om", "no log is known as 'ml-1om'"), ("ml-latest-small", "ships with rimsim")):
        assert main(["data", "download", name]) == 2
        assert told in capsys.readouterr().err


def _command(monkeypatch, known, folder, *options):
    """Run the command with a catalogue of one log."""
    monkeypatch.setattr(sys.modules["rimsim.data.downloads"], "_KNOWN", (known,))
    monkeypatch.setenv("RIMSIM_DATA", str(folder))
    return main(["data", "download", known.name, *options])


def test_the_command_fetches_and_shows_how_far_it_is(serve, tmp_path, monkeypatch, capsys):
    """The bar ends at the whole file, the path is printed, and the log then goes by its name."""
    server, known = serve("whole")
    assert _command(monkeypatch, known, tmp_path) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "made-up.zip").read_bytes() == CONTENT
    assert f"saved to {tmp_path / 'made-up.zip'}" in said
    kilobytes = f"{len(CONTENT) / 1000:.1f}"
    assert f"{kilobytes}/{kilobytes} kB" in said
    monkeypatch.chdir(tmp_path.parent)
    assert len(load("made-up")) == 20_000
    assert _command(monkeypatch, known, tmp_path) == 0
    said = capsys.readouterr().out
    assert "kB" not in said
    assert "saved to" in said
    assert len(server.asked) == 1


def test_the_command_takes_a_folder_and_says_what_broke(serve, tmp_path, monkeypatch, capsys):
    """A refusal ends in one sentence and status 2; the same command again fetches the file into the folder."""
    _, known = serve("404", "whole")
    there = ("--folder", str(tmp_path / "there"))
    assert _command(monkeypatch, known, tmp_path, *there) == 2
    (said,) = capsys.readouterr().err.splitlines()
    where = tmp_path / "there"
    assert said.startswith(f"rimsim: {known.url}: cannot be fetched to {where} (404 Client Error")
    assert _names(tmp_path / "there") == []
    assert _command(monkeypatch, known, tmp_path, *there) == 0
    assert (tmp_path / "there" / "made-up.zip").read_bytes() == CONTENT


def test_the_catalogue_is_sound():
    """Names are distinct, terms are stated, and what can be fetched has an address, a size and a checksum."""
    known = catalogue()
    assert len({one.name for one in known}) == len(known)
    for one in known:
        assert "GroupLens" in one.terms
        assert one.name in one.text()
        if one.url is not None:
            assert one.url.startswith("https://")
            assert one.size > 10**6
            assert len(one.checksum) == len("md5:") + 32
