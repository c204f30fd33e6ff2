"""HTTP responses with limits: on their length, and on the time they may take."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import aiohttp

from dtb_builder.errors import RemoteError
from dtb_builder.shown import masked

__all__ = ["client_options"]

_CONNECT_SECONDS = 30
_SILENCE_SECONDS = 60
_PATIENCE_SECONDS = 60
_LEAST_BYTES_PER_SECOND = 2**14
"""The least rate of a response that takes longer than _PATIENCE_SECONDS."""

_WITHOUT_RANGE_BYTES = 2**20
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def client_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options with which fsspec creates its HTTP client.

    Args:
        given: options from fsspec's configuration, which take precedence.
    """
    options = {
        "response_class": _Answer,
        "auto_decompress": False,
        "timeout": aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS),
    }
    headers = {"Accept-Encoding": "identity", **given.get("headers", {})}
    return {**options, **given, "headers": headers}


class _Answer(aiohttp.ClientResponse):
    """A response whose body is read up to one byte more than was asked for, to detect excess."""

    async def start(self, connection: Any) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await super().start(connection)
        except TimeoutError as error:
            raise self._slow("no answer", _PATIENCE_SECONDS) from error

    async def read(self) -> bytes:
        if self._body is not None:
            return self._body
        encoding = self.headers.get("Content-Encoding") or "identity"
        if self.ok and encoding != "identity":
            self.close()
            raise self._error(f"the server sends {encoding}, which was not asked for")
        most = _range_bytes(self.request_info.headers)
        seconds = _PATIENCE_SECONDS + most / _LEAST_BYTES_PER_SECOND
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while len(body) <= most and (part := await self.content.readany()):
                    body += part
        except TimeoutError as error:
            self.close()
            raise self._slow(f"{len(body)} of {most} bytes", seconds) from error
        if len(body) > most:
            self.close()
            if self.ok:  # the status of an error says more
                raise self._error(f"the server sends more than the {most} bytes asked for")
        self._body = bytes(body)
        return self._body

    def _slow(self, what: str, seconds: float) -> RemoteError:
        return self._error(
            f"{what} in {seconds:.0f} seconds: the server or the network is too slow"
        )

    def _error(self, what: str) -> RemoteError:
        return RemoteError(f"{masked(str(self.url))}: {what}")


def _range_bytes(headers: Mapping[str, str]) -> int:
    """The number of bytes that a request asked for."""
    asked = _RANGE.fullmatch(headers.get("Range", ""))
    return _WITHOUT_RANGE_BYTES if asked is None else int(asked[2]) - int(asked[1]) + 1
