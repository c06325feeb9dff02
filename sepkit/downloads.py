"""Files from an address: broken off and gone on with, checked, complete or not there."""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from email.message import Message
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from sepkit import __version__
from sepkit.disk import SPARE, OutputError, format_size, free_space, writing
from sepkit.files import atomic_file, hash_file, put_in_place
from sepkit.locks import locked

_PIECE = 1 << 18  # bytes read at once
_TIMEOUT = 30.0  # s without a byte
_PAUSES = (1.0, 3.0)  # s before another try
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers of a server that may be others a moment later
_PAGES = (b"<!doctype html", b"<html")
_REMEDY = "make room; the same command goes on where it stopped"


class DownloadError(Exception):
    """A file could not be had from its address."""


class _PassingError(DownloadError):
    """What may go better on the next try."""


@dataclass(frozen=True)
class _Origin:
    """What a half-loaded file is a part of: without it nothing is appended."""

    url: str
    tag: str = ""  # ETag, else Last-Modified, by which a server knows whether its file is the same
    total: int | None = None


def download(
    url: str,
    path: str | os.PathLike,
    sha256: str = "",
    size: int | None = None,
    largest: int | None = None,
    log: Callable[[str], Any] | None = None,
    progress: bool = True,
) -> str:
    """Load a file from an address; nothing else ever bears its name.

    What broke off lies beside it as `<name>.part` and is gone on with by the next call, if the server sends parts and
    its file is still the same. A file that is there, and is known to be the right one, is not loaded again.

    Args:
        url: http, https or file; redirects are followed, but none that gives up https.
        path: the file; its folder is made, and held against other processes meanwhile.
        sha256: of the file, hexadecimal, or at least its first 8 digits; "": what is computed is written into
            `<name>.sha256` beside it.
        size: bytes that it has; None: not known.
        largest: bytes that it may have; None: what the disk has room for.
        log: gets a line for each thing that is worth knowing; None: nobody.
        progress: show a bar, on a terminal.

    Returns:
        The sha256 of the file.

    Raises:
        ValueError: the address is of no kind that is read, or the folder is in use.
        DownloadError: nothing was loaded, or not all of it, or it is not the file that is wanted.
        sepkit.disk.OutputError: the disk refused.
    """
    _check_address(url)
    job = _Job(url, Path(path), sha256.lower(), size, largest, log or (lambda _line: None), progress)
    with writing(job.path.parent, _REMEDY):
        job.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(job.path.parent, "wait until it is done"):
            return job.find_present() or job.load()


@dataclass
class _Job:
    url: str
    path: Path
    sha256: str
    size: int | None
    largest: int | None
    log: Callable[[str], Any]
    progress: bool

    def __post_init__(self) -> None:
        self.part, self.note, self.sum = (
            self.path.with_name(self.path.name + suffix) for suffix in (".part", ".part.json", ".sha256")
        )

    def find_present(self) -> str | None:
        """Return the sha256 of a file that is there and is the right one, else None."""
        if not self.path.is_file():
            return None
        noted = self.sum.read_text(encoding="ascii", errors="replace").split() if self.sum.is_file() else []
        wanted, found = self.sha256 or "".join(noted[:1]), hash_file(self.path)
        if wanted and found.startswith(wanted):
            return found
        why = f"its sha256 is {found}, not {wanted}" if wanted else "nothing says whether it is all of it"
        self.log(f"{self.path} is there, but {why}: it is loaded again")
        return None

    def load(self) -> str:
        """Load the file, with a few tries."""
        resumed = self._load_part()
        found = hash_file(self.part)
        if not found.startswith(self.sha256) and resumed:
            self.log(f"what was loaded in parts has sha256 {found}, not {self.sha256}: it is loaded anew, as a whole")
            self._remove_part()
            self._load_part()
            found = hash_file(self.part)
        if not found.startswith(self.sha256):
            self._remove_part()
            begins = "" if len(self.sha256) == 64 else "begins with "
            raise DownloadError(
                f"{self.url} gave a file whose sha256 is {found}, but {begins}{self.sha256} is wanted: it was removed; "
                "either it was damaged on the way, so try again, or another file lies there now"
            )
        if not self.sha256:
            self.log(f"no sha256 is stated for {self.path.name}: that of what came is written down in {self.sum.name}")
        with atomic_file(self.sum) as file:
            file.write_text(f"{found}  {self.path.name}\n", encoding="utf-8")
        put_in_place(self.part, self.path)
        self.note.unlink(missing_ok=True)
        return found

    def _load_part(self) -> bool:
        """Load into the half-loaded file until it is complete; return whether anything was there to append to."""
        pauses, furthest = list(_PAUSES), self._loaded()
        while True:
            try:
                with self._naming_failure():
                    return self._receive()
            except _PassingError as failure:
                if self._loaded() > furthest:
                    pauses, furthest = list(_PAUSES), self._loaded()
                if not pauses:
                    kept = f"; {format_size(self._loaded())} are kept, the same command goes on from there"
                    raise DownloadError(f"{failure}{kept if self._loaded() else ''}") from failure
                self.log(f"{failure}: another try in {pauses[0]:g} s")
                time.sleep(pauses.pop(0))

    def _receive(self) -> bool:
        """Append what lacks; return whether anything was there to append to."""
        origin, start = self._origin(), self._loaded()
        if origin is None or (origin.total is not None and start > origin.total):
            start = 0
        elif start and start == origin.total:
            return True
        with _open(self.url, start, origin) as answer:
            start, total = self._read_head(answer, start, origin)
            _write_note(self.note, _Origin(self.url, _tag(answer.headers), total))
            shown = {"unit": "B", "unit_scale": True, "desc": self.path.name, "total": total, "initial": start}
            quiet = not (self.progress and sys.stderr.isatty())
            with self.part.open("r+b" if start else "wb") as file, tqdm(**shown, disable=quiet, leave=False) as bar:
                file.seek(start)
                loaded = self._copy(answer, file, start, total, bar)
        wanted = self.size if total is None else total
        if wanted is not None and loaded < wanted:
            raise _PassingError(f"{self.url} broke off after {loaded} of {wanted} bytes")
        return start > 0

    def _copy(self, answer: BinaryIO, file: BinaryIO, loaded: int, total: int | None, bar: tqdm) -> int:
        most = self._most() if total is None else total
        while piece := self._read(answer):
            if loaded == 0 and piece.lstrip()[:20].lower().startswith(_PAGES):
                self._refuse_page()
            loaded += len(piece)
            if loaded > most:
                file.truncate(0)
                raise DownloadError(f"{self.url} sends more than {most} bytes, which is all that there may be")
            file.write(piece)
            bar.update(len(piece))
        return loaded

    def _read(self, answer: BinaryIO) -> bytes:
        """Read on; what the network refuses is not taken for the disk's."""
        try:
            return answer.read(_PIECE)
        except TimeoutError as error:
            raise _PassingError(f"{self.url} sent nothing for {_TIMEOUT:g} s") from error
        except (http.client.HTTPException, OSError) as error:
            raise _PassingError(f"{self.url} broke off ({_reason(error)})") from error

    def _read_head(self, answer: Any, start: int, origin: _Origin | None) -> tuple[int, int | None]:
        """Return from which byte on the answer goes, and how many there are, once that can be what is wanted."""
        total = _number(answer.headers.get("Content-Length"))
        if answer.status == 206:
            unit, _, span = answer.headers.get("Content-Range", "").partition(" ")
            first, whole = _number(span.partition("-")[0]), _number(span.rpartition("/")[2])
            if unit != "bytes" or first != start or (origin and origin.total not in (None, whole)):
                self._remove_part()
                raise _PassingError(f"{self.url} has another file now than the one of which a part was loaded")
            total = whole
        elif start:
            self.log(f"{self.url} sends no parts, or another file than before: it is loaded from the start")
            start = 0
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise DownloadError(f"{self.url} sends its file packed ({encoding}), though it was asked not to")
        if "text/html" in answer.headers.get("Content-Type", ""):
            self._refuse_page()
        if self.size is not None and total not in (None, self.size):
            raise DownloadError(
                f"{self.url} has {total} bytes, but {self.size} are wanted: another file lies there now"
            )
        if total is not None and total > self._most(start):
            raise self._too_large(total, start)
        return start, total

    def _most(self, start: int = 0) -> int:
        """Return the bytes that the file may have, of which some are loaded."""
        room = free_space(self.path.parent)
        bounds = [self.size, self.largest, None if room is None else room + start - SPARE]
        return min(bound for bound in (*bounds, sys.maxsize) if bound is not None)

    def _too_large(self, total: int, start: int) -> OSError:
        if self.largest is not None and total > self.largest:
            return DownloadError(f"{self.url} has {total} bytes, but such a file has {self.largest} at most")
        free = free_space(self.path.parent) or 0
        return OutputError(
            f"{self.path.parent} has no room for {self.path.name}: {format_size(total - start)} lack and "
            f"{format_size(free)} are free, of which {format_size(SPARE)} are left; {_REMEDY}"
        )

    def _refuse_page(self) -> None:
        if self.path.suffix not in (".html", ".htm"):
            raise DownloadError(
                f"{self.url} gave a web page instead of {self.path.name}: open the address in a browser to see why"
            )

    @contextmanager
    def _naming_failure(self) -> Iterator[None]:
        """Turn what the network and servers do into sentences."""
        try:
            yield
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:
                self._remove_part()
            kind = _PassingError if error.code in (416, *_PASSING) else DownloadError
            raise kind(_explain_status(self.url, error.code, _reason(error.reason))) from None
        except urllib.error.URLError as error:
            raise self._unreachable(error.reason) from error
        except TimeoutError as error:
            raise _PassingError(f"{self.url} sent nothing for {_TIMEOUT:g} s") from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise _PassingError(f"{self.url} broke off ({_reason(error)})") from error

    def _unreachable(self, reason: object) -> DownloadError:
        parts = urlsplit(self.url)
        if parts.scheme == "file":
            return DownloadError(f"{self.url} cannot be read: {_reason(reason)}")
        return _PassingError(f"{parts.hostname} cannot be reached ({_reason(reason)}): check the network")

    def _loaded(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _origin(self) -> _Origin | None:
        """Read what the half-loaded file is a part of; None: unknown, of another address, or nothing can show it."""
        try:
            found = json.loads(self.note.read_text(encoding="utf-8"))
            origin = _Origin(**{field.name: found[field.name] for field in fields(_Origin)})
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return origin if origin.url == self.url and (origin.tag or self.sha256) else None

    def _remove_part(self) -> None:
        for path in (self.part, self.note):
            path.unlink(missing_ok=True)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects that stay on the web and keep encryption."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for the new address.

        Raises:
            DownloadError: it gives up https, or leads out of the web.
        """
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new != "https"):
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is not read: {old} must not become {new}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, start: int, origin: _Origin | None) -> Any:
    """Open a file, from a byte on where that is wanted and the file is still the same."""
    if urlsplit(url).scheme == "file":
        return _open_local(url)
    headers = {"User-Agent": f"sepkit/{__version__}", "Accept-Encoding": "identity"}
    if start and origin is not None:
        headers["Range"] = f"bytes={start}-"
        if origin.tag:
            headers["If-Range"] = origin.tag
    return urllib.request.build_opener(_Redirects).open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)


def _open_local(url: str) -> Any:
    if urlsplit(url).netloc not in ("", "localhost"):
        raise DownloadError(f"{url} is on another machine, which is not read: write file:///path")
    return urllib.request.urlopen(url)


def _check_address(url: str) -> None:
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https", "file") or not (parts.netloc or unquote(parts.path)):
        raise ValueError(f"url must begin with http://, https:// or file://, got {url!r}")


def _explain_status(url: str, code: int, reason: str) -> str:
    if code in (404, 410):
        return f"{url} does not exist (any more): answer {code}; look where its authors have it now"
    if code in (401, 403):
        return f"{url} is not given to everybody: answer {code} {reason}; load it in a browser and import the file"
    return f"{url} gave the answer {code} {reason}"


def _reason(error: object) -> str:
    """Describe a failure in the words of the system, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _tag(headers: Message) -> str:
    """Return by what a server knows a file again; weak tags are of no use for its parts."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _write_note(path: Path, origin: _Origin) -> None:
    with atomic_file(path, durable=False) as file:
        file.write_text(json.dumps(asdict(origin)), encoding="utf-8")
