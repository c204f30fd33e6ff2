"""Benchmarks on the Hub, by hf:// URLs."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from dataset.from_afar import FromAfar
from dataset.serving import FolderHandler, Served, serving

from dtb_builder import Benchmark
from dtb_builder.errors import RemoteError

fsspec = pytest.importorskip("fsspec", reason="needs the extra [remote]")
pytest.importorskip("huggingface_hub", reason="needs the extra [publish]")

_REPOSITORY = "datasets/owner/name"
_REVISIONS = ("main", "v1")
_SAID = {401: "RepoNotFound", 403: "GatedRepo"}
"""By the Hub, of what is private and of what one has to ask for."""


class _Hub(FolderHandler):
    """What the Hub answers of one data set, its files in the folder.

    As the Hub's do, requests for a large file's bytes are sent on to another place. That they are
    two is not in `asked`.
    """

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's
        path = urlsplit(self.path).path
        if self.served.refuses_with is not None:
            self._refuse(self.served.refuses_with, _SAID.get(self.served.refuses_with, ""))
        elif path.startswith("/elsewhere/"):
            self.send_part(self.served.folder / path.removeprefix("/elsewhere/"))
        elif path == f"/api/{_REPOSITORY}":
            self._send_json({"id": "owner/name"})
        elif path.startswith(f"/api/{_REPOSITORY}/revision/"):
            known = path.rpartition("/")[2] in _REVISIONS
            self._send_json({"id": "owner/name"}) if known else self._refuse(
                404, "RevisionNotFound"
            )
        elif path in [f"/api/{_REPOSITORY}/tree/{revision}" for revision in _REVISIONS]:
            self._send_json([_told(file) for file in sorted(self.served.folder.iterdir())])
        elif path.startswith(tuple(f"/{_REPOSITORY}/resolve/{r}/" for r in _REVISIONS)):
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{path.rpartition('/')[2]}")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._refuse(404, "RepoNotFound")

    def _send_json(self, told: object) -> None:
        self.send_data(json.dumps(told).encode(), headers={"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _told(file: Path) -> dict[str, object]:
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    with serving(tmp_path, _Hub) as found:
        _use_hub(found.url, monkeypatch)
        found.url = f"hf://{_REPOSITORY}"
        yield found


def _use_hub(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": url})
    monkeypatch.setenv("FSSPEC_HF_ENDPOINT", url)  # for other processes


class TestHub(FromAfar):
    """The Hub is a server as any other."""


def test_a_revision_may_be_named(shard: Path, served: Served) -> None:
    with Benchmark(f"{served.url}@v1/shard.h5") as remote:
        assert remote.run(3).state(epoch=0)


def test_no_repository_and_no_revision_are_no_file(served: Served) -> None:
    for repository in ("datasets/owner/other", f"{_REPOSITORY}@v2"):
        with pytest.raises(FileNotFoundError, match=f"there is no file hf://{repository}/dtb.h5"):
            Benchmark(f"hf://{repository}/dtb.h5")


def test_what_is_no_repository_is_refused(served: Served) -> None:
    with pytest.raises(RemoteError, match=r"hf://datasets/dtb\.h5: "):
        Benchmark("hf://datasets/dtb.h5")


def test_a_hub_that_is_not_there_is_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _use_hub("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(RemoteError, match=f"hf://{_REPOSITORY}/dtb.h5: Connect"):
        Benchmark(f"hf://{_REPOSITORY}/dtb.h5")
