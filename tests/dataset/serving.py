"""A folder on a server in a thread, which gives ranges and remembers what was asked of it."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

__all__ = ["FolderHandler", "Served", "serving"]


@dataclass
class Served:
    """A folder on a server.

    Attributes:
        url: what the URLs of its files begin with.
        folder: what it shows.
        gives_ranges: or whole files, whatever was asked for.
        refuses_with: the status of every answer, if it refuses.
        asked: method, first byte and bytes sent of each request that it answered.
    """

    url: str
    folder: Path
    gives_ranges: bool = True
    refuses_with: int | None = None
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def publish(self) -> None:
        """Show what the folder holds now; most servers do anyway."""


class FolderHandler(SimpleHTTPRequestHandler):
    """Answers with the files of the folder."""

    protocol_version = "HTTP/1.1"
    served: ClassVar[Served]

    def __init__(self, *args: Any) -> None:
        super().__init__(*args, directory=str(self.served.folder))

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # the reader has seen enough
            super().handle()

    def log_message(self, *_args: object, **_options: object) -> None: ...

    def do_HEAD(self) -> None:
        self.served.asked.append(("HEAD", 0, 0))
        if self.served.refuses_with is not None:
            self.send_error(self.served.refuses_with)
        else:
            super().do_HEAD()

    def do_GET(self) -> None:
        if self.served.refuses_with is not None:
            self.send_error(self.served.refuses_with)
        else:
            self.send_part(Path(self.translate_path(self.path)))

    def send_part(self, path: Path) -> None:
        """Answer with the asked range of a file."""
        if not path.is_file():
            self.send_error(404)
            return
        data, status, first = path.read_bytes(), 200, 0
        size = len(data)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is not None and self.served.gives_ranges:
            first, last = map(int, asked.groups())
            data, status = data[first : last + 1], 206
        headers = {"Content-Range": f"bytes {first}-{first + len(data) - 1}/{size}"}
        self.send_data(data, status, headers if status == 206 else {}, first=first)

    def send_data(
        self, data: bytes, status: int = 200, headers: dict[str, str] | None = None, first: int = 0
    ) -> None:
        """Answer with these bytes."""
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.served.asked.append(("GET", first, len(data)))
        self.wfile.write(data)


@contextlib.contextmanager
def serving(folder: Path, answers: type[FolderHandler] = FolderHandler) -> Iterator[Served]:
    """A server of the folder, in the body."""
    found = Served("", folder)
    handler = type("Handler", (answers,), {"served": found})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
