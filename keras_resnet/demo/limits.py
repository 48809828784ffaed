"""What the server of the page allows: how long a client may be silent, how many send at once, and from which page."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

# Until a connection has sent the head of a request, and until a request has sent its body.
HEAD_SECONDS, BODY_SECONDS = 10.0, 60.0
# Of all bodies in memory together; at most this many are answered at a time.
BODY_BYTES = 256 * 2**20
MAX_ANSWERS = 4
CONNECTIONS = 500


def with_idle_timeout(protocol: type) -> type:
    """Returns a protocol that closes connections whose next request does not arrive."""

    class IdleTimeout(protocol):
        """Closes a connection that is silent, or sends byte by byte, before it has asked anything."""

        _timer: Any = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._timer.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def _wait(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

    return IdleTimeout


class SameOrigin:
    """Answers 403 to requests that another page sends, as its browser says in `Origin`."""

    def __init__(self, application: Any) -> None:
        self.application = application

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes on what comes from the page itself, or from no page."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            origin, host = headers.get(b"origin"), headers.get(b"host", b"")
            if origin is not None and origin != b"http://" + host:
                body = b'{"error": "Requests of other pages are not answered."}'
                kind = [(b"content-type", b"application/json"), (b"connection", b"close")]
                await send({"type": "http.response.start", "status": 403, "headers": kind})
                await send({"type": "http.response.body", "body": body})
                return
        await self.application(scope, receive, send)


class Bodies:
    """Reads the bodies of requests into a bounded amount of memory, so that slow senders do not hold up the others."""

    def __init__(self) -> None:
        self.turn = asyncio.Semaphore(MAX_ANSWERS)
        self._sizes: dict[asyncio.Timeout, int] = {}
        self._last_parts: dict[asyncio.Timeout, float] = {}

    @contextlib.asynccontextmanager
    async def read(self, request: Any, most: int) -> AsyncIterator[bytes | None]:
        """Yields the body of a request; None for one that is larger. It counts until the block ends.

        Args:
            request: of Starlette.
            most: bytes.

        Raises:
            TimeoutError: it does not arrive, or it is the slowest of more bodies than fit into memory.
        """
        clock = asyncio.get_running_loop().time
        limit = asyncio.timeout(BODY_SECONDS)
        content: bytearray | None = bytearray()
        try:
            async with limit:
                async for part in request.stream():
                    content += part
                    self._sizes[limit], self._last_parts[limit] = len(content), clock()
                    if len(content) > most:
                        content = None
                        break
                    if sum(self._sizes.values()) > BODY_BYTES:
                        slowest = min(self._last_parts, key=self._last_parts.__getitem__)
                        del self._sizes[slowest], self._last_parts[slowest]
                        slowest.reschedule(clock())
                        await asyncio.sleep(0)
            self._last_parts.pop(limit, None)
            yield None if content is None else bytes(content)
        finally:
            self._sizes.pop(limit, None)
            self._last_parts.pop(limit, None)
