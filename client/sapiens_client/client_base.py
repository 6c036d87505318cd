"""What the clients are besides their tasks: made, closed, pickled, and asked what they are connected to."""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from sapiens_client.connection.log import write_log_as_told
from sapiens_client.connection.options import DEFAULTS, CallOptions, ClientOptions, check_call_options
from sapiens_client.connection.settings import checked_settings, chosen_url
from sapiens_client.deadline import Deadline
from sapiens_client.servers.session import Session
from sapiens_client.tasks.analyze import SMALL_IMAGE, warmed_up
from sapiens_client.tasks.call import Call, about
from sapiens_client.tasks.models import model_cards

if TYPE_CHECKING:
    from sapiens_client.connection.identity import TLS, Token
    from sapiens_client.results.models import ModelCard
    from sapiens_client.steps import Flow
    from sapiens_client.tasks.images import ImageLike
    from sapiens_client.tasks.table import TaskName
    from sapiens_client.wire.threads import Transport

R = TypeVar("R")
C = TypeVar("C", bound="_Client")


class _Client(ABC):
    """What both clients are made with, as `SapiensClient` describes it."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        timeout_s: float = 60.0,
        tls: bool | TLS = False,
        token: Token | None = None,
        headers: Mapping[str, str] | None = None,
        options: ClientOptions = DEFAULTS,
    ) -> None:
        write_log_as_told()
        Deadline.after(timeout_s)  # refuses a bad timeout now, not at the first call
        self._settings = checked_settings(url, tls, token, headers, options)
        self._session = Session(self._settings)
        self._timeout_s = timeout_s
        self._options = CallOptions()
        self._origin: Self | None = None
        self._arguments: dict[str, Any] = {
            "url": chosen_url(url),
            "timeout_s": timeout_s,
            "tls": tls,
            "token": token,
            "headers": headers,
            "options": options,
        }
        self._connect()

    @abstractmethod
    def _connect(self) -> None:
        """Make the transport, which loads gRPC."""

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[Callable[..., Self], CallOptions]]:
        """Copy what the client was made with: who unpickles it gets one that connects anew."""
        return _remade, (partial(type(self), **self._arguments), self._options)

    def with_options(self, **options: Unpack[CallOptions]) -> Self:
        """Return a client whose calls have other options; it has its connections in common with this one.

        Closing either closes both.

        Args:
            options: `timeout_s`, `headers`, which are added to those of this client, `channel_order` and
                `dtype`, see `CallOptions`. What is left out stays as it is.

        Raises:
            InvalidInputError: An option cannot be used, or headers would travel to another machine without
                TLS.

        Example:
            >>> opencv = client.with_options(channel_order="bgr", timeout_s=5)
            ... opencv.depth(cv2.imread("photo.jpg"))
        """
        check_call_options(options)
        client: Self = object.__new__(type(self))
        client.__dict__.update(self.__dict__)
        client._origin = self  # which closes its connections when nobody has it any more
        client._options = {**self._options, **options}
        headers = options.get("headers")
        client._session = self._session.sending(headers)
        client._options["headers"] = {**(self._options.get("headers") or {}), **(headers or {})}
        if (timeout_s := options.get("timeout_s")) is not None:
            Deadline.after(timeout_s)
            client._timeout_s = timeout_s
        return client

    def _about(self, image: ImageLike, ask: Callable[[Call], Flow[R]], options: CallOptions) -> Flow[R]:
        check_call_options(options)
        timeout_s = options.get("timeout_s")
        return about(
            self._session.sending(options.get("headers")),
            image,
            self._timeout_s if timeout_s is None else timeout_s,
            ask,
            options.get("channel_order") or self._options.get("channel_order") or "rgb",
            options.get("dtype") or self._options.get("dtype") or "float32",
        )


def _remade(make: Callable[[], C], options: CallOptions) -> C:
    return make().with_options(**options) if options else make()


class SyncClient(_Client):
    """A client whose methods wait for their answers."""

    def _connect(self) -> None:
        from sapiens_client.wire.threads import Transport

        self._transport = Transport(self._settings)
        # Also when the process ends, or nobody has the client any more: else calls on other threads would go
        # on until their deadlines, and servers would keep what they were told to.
        self._end = weakref.finalize(self, _close, self._session, self._transport, os.getpid())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _ask(self, image: ImageLike, ask: Callable[[Call], Flow[R]], options: CallOptions) -> R:
        return self._transport.run(self._about(image, ask, options))

    def warm_up(self, *tasks: TaskName, **options: Unpack[CallOptions]) -> None:
        """Have tasks asked once about a small picture, so that the first call takes no longer than others.

        This connects, learns about the models, and lets engines compute that were not warmed up.

        Args:
            tasks: What will be asked for. None given: all that the server has.
            options: `timeout_s` and `headers`, see `CallOptions`.

        Raises:
            SapiensError: A task has no answer; its class tells why, see `SapiensClient`.
        """
        self._ask(SMALL_IMAGE, lambda call: warmed_up(call, tasks), options)

    def close(self) -> None:
        """Close the connections; calls under way and later ones end with a ClientClosedError."""
        self._end()

    def ready(self, *, timeout_s: float = 5.0) -> bool:
        """Return whether a server answers and all its models are loaded; False when there is none.

        One of several is enough: while some drain, are loading or away, calls go to the others.

        Args:
            timeout_s: How long to wait for the answer. [s]
        """
        return self._transport.run(self._session.is_ready(Deadline.after(timeout_s)))

    def wait_until_ready(self, *, timeout_s: float = 300.0) -> None:
        """Wait until a server answers and all its models are loaded.

        Args:
            timeout_s: How long to wait; loading large engines takes minutes. [s]

        Raises:
            RequestTimeoutError: None was ready in time; why the last one asked was not.
            AuthenticationError: Waiting does not help: the server wants another token or header.
            TLSError: Waiting does not help: its certificate is not trusted.
        """
        self._transport.run(self._session.wait_until_ready(Deadline.after(timeout_s)))

    def models(self, *, timeout_s: float | None = None) -> dict[str, ModelCard]:
        """Tell what the server serves.

        Args:
            timeout_s: How long the answer may take. None: the client's timeout. [s]

        Returns:
            The ensembles that answer tasks, by the names that `model` takes. Where the server keeps its list
            of models to others (Triton's `--grpc-restricted-protocol=model-repository`), only those under
            the names of the tasks.

        Raises:
            ServerUnavailableError: No server answers, or its certificate is not trusted (TLSError).
            AuthenticationError: The server wants another token or header.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: A model was exported by a release that this one does not understand.
        """
        deadline = Deadline.after(self._timeout_s if timeout_s is None else timeout_s)
        return self._transport.run(model_cards(self._session, deadline))


def _close(session: Session, transport: Transport, owner: int) -> None:
    if os.getpid() != owner:  # a copy of the process has nothing that is its own
        return
    try:
        transport.run(session.close())
    finally:
        transport.close()


class AsyncClient(_Client):
    """A client whose methods are awaited."""

    def _connect(self) -> None:
        from sapiens_client.wire.event_loop import AsyncTransport

        self._transport = AsyncTransport(self._settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _ask(self, image: ImageLike, ask: Callable[[Call], Flow[R]], options: CallOptions) -> R:
        return await self._transport.run(self._about(image, ask, options))

    async def warm_up(self, *tasks: TaskName, **options: Unpack[CallOptions]) -> None:
        """Have tasks asked once about a small picture, so that the first call takes no longer than others.

        This connects, learns about the models, and lets engines compute that were not warmed up.

        Args:
            tasks: What will be asked for. None given: all that the server has.
            options: `timeout_s` and `headers`, see `CallOptions`.

        Raises:
            SapiensError: A task has no answer; its class tells why, see `SapiensClient`.
        """
        await self._ask(SMALL_IMAGE, lambda call: warmed_up(call, tasks), options)

    async def close(self) -> None:
        """Close the connections; calls under way and later ones end with a ClientClosedError."""
        try:
            await self._transport.run(self._session.close())
        finally:
            await self._transport.close()

    async def ready(self, *, timeout_s: float = 5.0) -> bool:
        """Return whether a server answers and all its models are loaded; False when there is none.

        One of several is enough: while some drain, are loading or away, calls go to the others.

        Args:
            timeout_s: How long to wait for the answer. [s]
        """
        return await self._transport.run(self._session.is_ready(Deadline.after(timeout_s)))

    async def wait_until_ready(self, *, timeout_s: float = 300.0) -> None:
        """Wait until a server answers and all its models are loaded.

        Args:
            timeout_s: How long to wait; loading large engines takes minutes. [s]

        Raises:
            RequestTimeoutError: None was ready in time; why the last one asked was not.
            AuthenticationError: Waiting does not help: the server wants another token or header.
            TLSError: Waiting does not help: its certificate is not trusted.
        """
        await self._transport.run(self._session.wait_until_ready(Deadline.after(timeout_s)))

    async def models(self, *, timeout_s: float | None = None) -> dict[str, ModelCard]:
        """Tell what the server serves.

        Args:
            timeout_s: How long the answer may take. None: the client's timeout. [s]

        Returns:
            The ensembles that answer tasks, by the names that `model` takes. Where the server keeps its list
            of models to others (Triton's `--grpc-restricted-protocol=model-repository`), only those under
            the names of the tasks.

        Raises:
            ServerUnavailableError: No server answers, or its certificate is not trusted (TLSError).
            AuthenticationError: The server wants another token or header.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: A model was exported by a release that this one does not understand.
        """
        deadline = Deadline.after(self._timeout_s if timeout_s is None else timeout_s)
        return await self._transport.run(model_cards(self._session, deadline))
