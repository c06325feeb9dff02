"""Downloads from a server on this machine: complete and checked, or a sentence and nothing under the file's name."""

import hashlib
import io
import os
import sys
import urllib.request
from pathlib import Path

import pytest
from serving import Served, Server, serving

from sepkit import downloads
from sepkit.disk import OutputError
from sepkit.downloads import DownloadError, download
from sepkit.locks import LockedError, locked

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
OTHER = b"other" * 1000


@pytest.fixture
def server() -> Server:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def hasty(monkeypatch) -> None:
    """Do not wait between tries."""
    monkeypatch.setattr(downloads, "_PAUSES", (0.0, 0.0))


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "below" / "model.ckpt"


def left(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def broken_off(server: Server, path: Path, n_bytes: int = 1000, **how) -> str:
    """Leave a part of the file behind, as a call that broke off does."""
    url = server.put("/m", CONTENT, **{"cuts": [n_bytes, 0, 0, 0], **how})
    with pytest.raises(DownloadError):
        download(url, path, how.pop("sha256", SHA))
    server.files["/m"].cuts.clear()
    server.requests.clear()
    return url


@pytest.mark.parametrize("sha256", [SHA, SHA[:8], SHA.upper(), ""])
def test_a_file_is_loaded_whole_and_nothing_else_is_left(server, path, sha256):
    assert download(server.put("/m", CONTENT), path, sha256, len(CONTENT)) == SHA
    assert path.read_bytes() == CONTENT
    assert left(path) == ["model.ckpt", "model.ckpt.sha256"]
    assert path.with_name("model.ckpt.sha256").read_text() == f"{SHA}  model.ckpt\n"


def test_a_sha256_that_nobody_stated_is_said_and_written_down(server, path):
    lines = []
    download(server.put("/m", CONTENT), path, log=lines.append)
    assert lines == ["no sha256 is stated for model.ckpt: that of what came is written down in model.ckpt.sha256"]


@pytest.mark.parametrize("sha256", [SHA, SHA[:8], ""])
def test_a_file_that_is_there_is_not_loaded_again(server, path, sha256):
    url = server.put("/m", CONTENT)
    download(url, path, sha256)
    assert download(url, path, sha256) == SHA
    assert len(server.requests) == 1


@pytest.mark.parametrize(("sha256", "why"), [(SHA, "its sha256 is"), ("", "nothing says whether it is all of it")])
def test_a_file_that_is_there_and_another_is_loaded_again(server, path, sha256, why):
    path.parent.mkdir()
    path.write_bytes(b"something else")
    lines = []
    download(server.put("/m", CONTENT), path, sha256, log=lines.append)
    assert path.read_bytes() == CONTENT
    assert why in lines[0]


def test_an_empty_file_is_a_file(server, path):
    download(server.put("/m"), path)
    assert path.read_bytes() == b""


def test_a_file_of_this_machine_is_copied(tmp_path, path):
    (tmp_path / "here.ckpt").write_bytes(CONTENT)
    assert download((tmp_path / "here.ckpt").as_uri(), path, SHA) == SHA


def test_a_file_that_is_not_on_this_machine_is_told(tmp_path, path):
    with pytest.raises(DownloadError, match=r"gone\.ckpt cannot be read: .*[Nn]o such file"):
        download((tmp_path / "gone.ckpt").as_uri(), path)


def test_a_file_of_another_machine_is_refused(path):
    with pytest.raises(DownloadError, match="is on another machine, which is not read: write file:///path"):
        download("file://elsewhere/m.ckpt", path)


@pytest.mark.parametrize("url", ["ftp://host/m", "m.ckpt", "", "http://", None, "data:,x"])
def test_an_address_of_another_kind_is_refused(url, path):
    with pytest.raises(ValueError, match="url must begin with http://, https:// or file://, got"):
        download(url, path)


@pytest.mark.parametrize(("on_terminal", "progress", "shown"), [(1, 1, True), (1, 0, False), (0, 1, False)])
def test_a_bar_is_shown_on_a_terminal(server, path, monkeypatch, on_terminal, progress, shown):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: on_terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    download(server.put("/m", CONTENT), path, progress=progress)
    assert ("model.ckpt" in stream.getvalue()) == shown


# Broken off


def test_what_breaks_off_is_gone_on_with_at_once(server, path):
    lines = []
    download(server.put("/m", CONTENT, cuts=[1000, 500_000]), path, SHA, log=lines.append)
    assert path.read_bytes() == CONTENT
    assert [span for _, span in server.requests] == [None, "bytes=1000-", "bytes=501000-"]
    assert lines[0].endswith(f"/m broke off after 1000 of {len(CONTENT)} bytes: another try in 0 s")


def test_a_server_may_break_off_often_if_each_time_something_comes(server, path):
    assert download(server.put("/m", CONTENT, cuts=[100_000] * 9), path, SHA) == SHA


def test_what_stays_broken_off_says_how_to_go_on(server, path):
    url = server.put("/m", CONTENT, cuts=[500_000, 0, 0, 0])
    with pytest.raises(DownloadError, match=r"broke off after 500000 of 1024000 bytes; 500 kB are kept, the same comm"):
        download(url, path, SHA)
    assert left(path) == ["model.ckpt.part", "model.ckpt.part.json"]


@pytest.mark.parametrize(
    ("tag", "sha256"), [('"1"', SHA), ("", SHA), ('"1"', "")], ids=["both", "hash alone", "tag alone"]
)
def test_the_next_call_goes_on_where_the_last_stopped(server, path, tag, sha256):
    url = broken_off(server, path, tag=tag)
    assert download(url, path, sha256) == SHA
    assert [span for _, span in server.requests] == ["bytes=1000-"]
    assert left(path) == ["model.ckpt", "model.ckpt.sha256"]


def test_parts_that_nothing_could_show_to_belong_together_are_not_joined(server, path):
    url = broken_off(server, path, tag="")
    assert download(url, path) == SHA
    assert [span for _, span in server.requests] == [None]


def test_a_part_of_another_address_is_not_gone_on_with(server, path):
    broken_off(server, path)
    assert download(server.put("/n", CONTENT), path, SHA) == SHA
    assert server.requests == [("/n", None)]


def test_a_server_without_parts_starts_anew(server, path):
    url, lines = broken_off(server, path, ranges=False, cuts=[1000] * 4), []
    assert download(url, path, SHA, log=lines.append) == SHA
    assert [span for _, span in server.requests] == ["bytes=1000-"]
    assert lines[0].endswith("sends no parts, or another file than before: it is loaded from the start")


def test_of_a_file_that_changed_meanwhile_nothing_old_is_kept(server, path):
    url = broken_off(server, path)
    server.files["/m"] = Served(OTHER, tag='"2"')
    download(url, path)
    assert path.read_bytes() == OTHER


def test_a_file_that_changed_in_size_without_a_tag_is_noticed(server, path):
    url, lines = broken_off(server, path, tag=""), []
    server.files["/m"] = Served(OTHER, tag="")
    download(url, path, hashlib.sha256(OTHER).hexdigest(), log=lines.append)
    assert path.read_bytes() == OTHER
    assert "has another file now than the one of which a part was loaded" in lines[0]


def test_parts_that_do_not_give_the_file_are_loaded_anew(server, path):
    url, lines = broken_off(server, path), []
    path.with_name("model.ckpt.part").write_bytes(b"x" * 1000)
    assert download(url, path, SHA, log=lines.append) == SHA
    assert "what was loaded in parts has sha256" in lines[0]


def test_what_is_stopped_is_gone_on_with(server, path, monkeypatch):
    url, read = server.put("/m", CONTENT), downloads._Job._read

    def stop(job, answer):
        if job.part.stat().st_size:
            raise KeyboardInterrupt
        return read(job, answer)

    monkeypatch.setattr(downloads, "_PIECE", 1 << 19)
    monkeypatch.setattr(downloads._Job, "_read", stop)
    with pytest.raises(KeyboardInterrupt):
        download(url, path, SHA)
    monkeypatch.setattr(downloads._Job, "_read", read)
    assert left(path) == ["model.ckpt.part", "model.ckpt.part.json"]
    assert download(url, path, SHA) == SHA
    assert [span for _, span in server.requests] == [None, "bytes=524288-"]


def test_a_part_that_is_complete_needs_no_request(server, path):
    url = broken_off(server, path)
    path.with_name("model.ckpt.part").write_bytes(CONTENT)
    assert download(url, path, SHA) == SHA
    assert server.requests == []


def test_a_part_longer_than_the_file_starts_anew(server, path):
    url = broken_off(server, path)
    path.with_name("model.ckpt.part").write_bytes(CONTENT + CONTENT)
    assert download(url, path, SHA) == SHA


@pytest.mark.parametrize("note", ["", "[1]", "{}", "\x00"])
def test_a_part_whose_note_is_damaged_starts_anew(server, path, note):
    url = broken_off(server, path)
    path.with_name("model.ckpt.part.json").write_text(note)
    assert download(url, path, SHA) == SHA
    assert [span for _, span in server.requests] == [None]


def test_a_range_that_the_server_refuses_starts_anew(server, path):
    url = broken_off(server, path)
    server.files["/m"].status = 416
    served = Served(CONTENT)

    class Log(list):
        def append(self, line: str) -> None:
            server.files["/m"] = served
            super().append(line)

    lines = Log()
    assert download(url, path, SHA, log=lines.append) == SHA
    assert "gave the answer 416" in lines[0]


# Not what is wanted


@pytest.mark.parametrize(("sha256", "said"), [("0" * 64, "but 0{64} is wanted"), ("0" * 8, "but begins with 0{8} is")])
def test_a_file_with_another_hash_is_removed_and_told(server, path, sha256, said):
    with pytest.raises(DownloadError, match=f"gave a file whose sha256 is {SHA}, {said}.*: it was removed; either"):
        download(server.put("/m", CONTENT), path, sha256)
    assert left(path) == []


def test_a_size_that_is_not_the_stated_one_is_told_before_anything_is_loaded(server, path):
    with pytest.raises(DownloadError, match="has 1024000 bytes, but 7 are wanted: another file lies there now"):
        download(server.put("/m", CONTENT), path, size=7)
    assert left(path) == []


@pytest.mark.parametrize("how", [{"size": 7}, {"largest": 7}])
def test_more_than_is_wanted_is_not_written_where_no_size_is_said(server, path, how):
    with pytest.raises(DownloadError, match="sends more than 7 bytes, which is all that there may be"):
        download(server.put("/m", CONTENT, sized=False), path, **how)
    assert not path.exists()


def test_less_than_the_stated_size_is_not_taken(server, path):
    with pytest.raises(DownloadError, match="has 1024000 bytes, but 2000000 are wanted"):
        download(server.put("/m", CONTENT, sized=False), path, size=2_000_000)


def test_a_size_above_the_largest_is_refused(server, path):
    with pytest.raises(DownloadError, match="has 1024000 bytes, but such a file has 7 at most"):
        download(server.put("/m", CONTENT), path, largest=7)


def test_a_file_without_stated_size_is_loaded(server, path):
    assert download(server.put("/m", CONTENT, sized=False), path) == SHA


def test_what_does_not_fit_the_disk_is_not_begun(server, path, monkeypatch):
    monkeypatch.setattr(downloads, "free_space", lambda _folder: 70_000_000 - 2_500_000)
    with pytest.raises(OutputError, match=r"has no room for model.ckpt: 1.0 MB lack and 68 MB are free, of which 67"):
        download(server.put("/m", CONTENT), path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_disk_that_is_full_is_told(server, path):
    path.parent.mkdir()
    path.with_name("model.ckpt.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"no space is left on its disk.*; make room; the same command goes on"):
        download(server.put("/m", CONTENT), path)


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"  <!DOCTYPE html><p>Log in", {}),
        (b"Log in", {"Content-Type": "text/html; charset=utf-8"}),
        (b"<html>", {"Content-Type": "application/octet-stream"}),
    ],
)
def test_a_web_page_is_not_taken_for_a_model(server, path, content, headers):
    with pytest.raises(DownloadError, match=r"gave a web page instead of model.ckpt: open the address in a browser"):
        download(server.put("/m", content, headers=headers), path)
    assert not path.exists()


def test_a_web_page_that_is_wanted_is_loaded(server, tmp_path):
    download(server.put("/m", b"<html>"), tmp_path / "page.html")


def test_what_is_packed_is_refused(server, path):
    with pytest.raises(DownloadError, match=r"sends its file packed \(gzip\), though it was asked not to"):
        download(server.put("/m", b"x", headers={"Content-Encoding": "gzip"}), path)


# Where it leads, and where it does not


def test_redirects_are_followed_with_the_range(server, path):
    broken_off(server, path)
    url = server.put("/old", status=302, location="/m")
    path.with_name("model.ckpt.part.json").unlink()
    server.files["/m"].cuts = [1000]
    download(url, path, SHA)
    assert server.requests == [("/old", None), ("/m", None), ("/old", "bytes=1000-"), ("/m", "bytes=1000-")]


def test_redirects_in_a_circle_end(server, path):
    url = server.put("/a", status=302, location="/b")
    server.put("/b", status=302, location="/a")
    with pytest.raises(DownloadError, match=r"gave the answer 302 .*infinite loop"):
        download(url, path)


@pytest.mark.parametrize("location", ["ftp://host/m", "file:///etc/passwd"])
def test_no_redirect_leads_out_of_the_web(server, path, location):
    with pytest.raises(DownloadError, match=r"302|leads to ftp://host/m, which is not read"):
        download(server.put("/m", status=302, location=location), path)
    assert left(path) == []


def test_no_redirect_gives_up_encryption():
    request = urllib.request.Request("https://host/m")
    with pytest.raises(DownloadError, match="leads to http://host/m, which is not read: https must not become http"):
        downloads._Redirects().redirect_request(request, None, 302, "Found", {}, "http://host/m")


@pytest.mark.parametrize(
    ("status", "said", "n_tries"),
    [
        (404, r"/m does not exist \(any more\): answer 404; look where its authors have it now", 1),
        (410, "does not exist", 1),
        (401, "is not given to everybody: answer 401 Unauthorized; load it in a browser and import the file", 1),
        (403, "is not given to everybody", 1),
        (500, "gave the answer 500", 3),
        (503, "gave the answer 503", 3),
        (429, "gave the answer 429", 3),
    ],
)
def test_an_answer_without_a_file_is_told(server, path, status, said, n_tries):
    with pytest.raises(DownloadError, match=said):
        download(server.put("/m", status=status), path)
    assert len(server.requests) == n_tries
    assert left(path) == []


def test_a_server_that_is_not_there_is_told(path):
    with serving() as gone:
        url = gone.put("/m", CONTENT)
    lines = []
    with pytest.raises(DownloadError, match=r"127.0.0.1 cannot be reached \(Connection refused\): check the network"):
        download(url, path, log=lines.append)
    assert len(lines) == 2


def test_a_network_that_is_not_there_is_told(path, monkeypatch):
    def offline(*_arguments, **_rest):
        raise downloads.urllib.error.URLError(OSError(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", offline)
    with pytest.raises(DownloadError, match=r"models\.example cannot be reached \(Name or service not known\): check"):
        download("https://models.example/m.ckpt", path)


def test_a_server_that_says_nothing_is_told(path, monkeypatch):
    import socket

    monkeypatch.setattr(downloads, "_TIMEOUT", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/m"
        with pytest.raises(DownloadError, match=r"sent nothing for 0\.02 s|cannot be reached"):
            download(url, path)


def test_a_folder_in_use_is_told(server, path):
    path.parent.mkdir()
    with locked(path.parent, "x"), pytest.raises(LockedError, match="in use by this process itself: wait until it is"):
        download(server.put("/m", CONTENT), path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs permissions that hold")
def test_a_folder_that_cannot_be_written_to_is_told(server, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written to"):
        download(server.put("/m", CONTENT), tmp_path / "below" / "m")
