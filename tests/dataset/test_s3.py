"""Benchmarks in a bucket, by s3:// URLs."""

import re
from collections.abc import Callable, Iterable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from dataset.from_afar import FromAfar
from dataset.serving import Served

from dtb_builder import Benchmark
from dtb_builder.errors import RemoteError

fsspec = pytest.importorskip("fsspec", reason="needs the extra [remote]")
pytest.importorskip("s3fs", reason="pip install s3fs")
moto_server = pytest.importorskip("moto.server", reason="pip install 'moto[server]'")

_REFUSAL = b"<Error><Code>%s</Code><Message>%s</Message></Error>"
_SAID = {401: "InvalidToken", 403: "AccessDenied", 500: "InternalError"}


class _Bucket(Served):
    """The folder in a bucket of moto's, whose server it stands before."""

    def __init__(self, folder: Path, server: Any) -> None:
        super().__init__("s3://bucket", folder)
        host, port = server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        self._connection = HTTPConnection(host, port)
        self._application = server._server.app
        self._request("POST", "/moto-api/reset")
        self._request("PUT", "/bucket")

    def publish(self) -> None:
        for path in self.folder.glob("*.h5"):
            self._request("PUT", f"/bucket/{path.name}", path.read_bytes())
        self.asked.clear()

    def _request(self, method: str, path: str, body: bytes = b"") -> None:
        self._connection.request(method, path, body, {"x-amz-acl": "public-read"})
        answer = self._connection.getresponse()
        assert answer.status == 200, (method, path, answer.read())
        answer.read()

    def close(self) -> None:
        self._connection.close()

    def answer(self, environment: dict[str, Any], start: Callable) -> Iterable[bytes]:
        """What the server answers a request, by the rules of WSGI."""
        method = environment["REQUEST_METHOD"]
        if self.refuses_with is not None:
            code = _SAID[self.refuses_with].encode()
            start(f"{self.refuses_with} {code}", [("Content-Type", "application/xml")])
            return [_REFUSAL % (code, code)] if method != "HEAD" else []

        def counted(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            span = re.match(r"bytes (\d+)-", dict(headers).get("Content-Range", ""))
            length = int(dict(headers).get("Content-Length", 0)) if method == "GET" else 0
            self.asked.append((method, int(span[1]) if span else 0, length))
            return start(status, headers, *error)

        return self._application(environment, counted)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def served(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bucket]:
    found = _Bucket(tmp_path, server)
    monkeypatch.setattr(server._server, "app", found.answer)
    settings = {
        "AWS_ENDPOINT_URL": found.endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # a refusal is one at once
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield found
    found.close()


class TestS3(FromAfar):
    """A bucket is a server as any other."""


def test_no_bucket_is_no_file(served: _Bucket) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file s3://other/dtb\.h5"):
        Benchmark("s3://other/dtb.h5")


def test_a_reader_without_credentials_is_told_so(
    served: _Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": served.endpoint})
    with pytest.raises(RemoteError, match=r"s3://bucket/dtb\.h5: NoCredentialsError: "):
        Benchmark("s3://bucket/dtb.h5")


def test_a_public_bucket_needs_no_credentials(
    shard: Path, served: _Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.publish()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})
    with Benchmark("s3://bucket/shard.h5") as remote:
        assert remote.run(3).state(epoch=0)


def test_a_store_that_is_not_there_is_an_error_of_its_own(
    served: _Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(RemoteError, match=r"s3://bucket/dtb\.h5: EndpointConnectionError"):
        Benchmark("s3://bucket/dtb.h5")
