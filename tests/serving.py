"""A server on this machine for tests of downloads, which breaks off, redirects and changes as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """What the server does at one path.

    Attributes:
        content: of the file.
        tag: ETag of the file; empty: none.
        ranges: whether parts are sent.
        status: of the answer, where no file is sent.
        location: where the answer leads.
        cuts: bytes after which answers break off, an answer each, before any is complete.
        headers: more of them.
        sized: whether its size is said.
    """

    content: bytes = b""
    tag: str = '"1"'
    ranges: bool = True
    status: int = 200
    location: str = ""
    cuts: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    sized: bool = True


@dataclass
class Server:
    """A running server.

    Attributes:
        url: its address, without "/" at the end.
        files: by path.
        requests: path and Range header of each request so far.
    """

    url: str
    files: dict[str, Served] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def put(self, path: str, content: bytes = b"", **rest) -> str:
        """Serve a file and return its address."""
        self.files[path] = Served(content, **rest)
        return f"{self.url}{path}"


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server as long as the context lasts."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.daemon_threads = True
    httpd.server = Server(f"http://127.0.0.1:{httpd.server_address[1]}")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield httpd.server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        state: Server = self.server.server
        state.requests.append((self.path, self.headers.get("Range")))
        served = state.files.get(self.path, Served(status=404))
        if served.status != 200:
            self.send_response(served.status)
            for name, value in {"Location": served.location, "Content-Length": "0", **served.headers}.items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            return
        start, stop = self._span(served)
        is_part = (start, stop) != (0, len(served.content))
        self.send_response(206 if is_part else 200)
        if is_part:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(served.content)}")
        if served.tag:
            self.send_header("ETag", served.tag)
        if served.sized:
            self.send_header("Content-Length", str(stop - start))
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.end_headers()
        end = start + served.cuts.pop(0) if served.cuts else stop
        self.wfile.write(served.content[start : min(end, stop)])

    def do_HEAD(self) -> None:
        served = self.server.server.files.get(self.path, Served(status=404))
        self.send_response(served.status)
        if served.sized:
            self.send_header("Content-Length", str(len(served.content)))
        self.end_headers()

    def _span(self, served: Served) -> tuple[int, int]:
        """Return the first byte that is asked for and the one behind the last."""
        span, tag = self.headers.get("Range"), self.headers.get("If-Range", served.tag)
        if not (span and served.ranges and tag == served.tag):
            return 0, len(served.content)
        first, _, last = span.removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1, len(served.content)) if last else len(served.content)

    def log_message(self, *_arguments) -> None:
        pass
