"""The rarer choices about a client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict, get_args

from sapiens_client.deadline import MAX_TIMEOUT_S
from sapiens_client.errors import InvalidInputError

Output: TypeAlias = Literal["auto", "image", "network"]
Compression: TypeAlias = Literal["none", "gzip", "deflate"]
ChannelOrder: TypeAlias = Literal["rgb", "bgr"]
FloatType: TypeAlias = Literal["float32", "float16"]


class CallOptions(TypedDict, total=False):
    """Options of every call; `with_options` sets them for many.

    Attributes:
        timeout_s: How long the call may take, everything included. None: the client's timeout. [s]
        headers: Further headers of its requests, such as a trace; they take the place of the client's of the
            same name. What asks whether servers are ready, or about shared memory, goes without.
        channel_order: Of images that are arrays: "bgr" as OpenCV has them. None: that of the client, "rgb".
        dtype: Of depth, normals, points, alpha and foreground: "float16" rounds them to half the bytes, on
            the server where it finishes them, to within 2**-11 of a value (and 2**-25; beyond 65504 it is
            infinity). None: that of the client, "float32".
    """

    timeout_s: float | None
    headers: Mapping[str, str] | None
    channel_order: ChannelOrder | None
    dtype: FloatType | None


def check_call_options(options: CallOptions) -> None:
    """Refuse options that there are not.

    Raises:
        TypeError: An option is called otherwise.
        InvalidInputError: There is no such order of channels or type.
    """
    if unknown := options.keys() - CallOptions.__annotations__.keys():
        known = ", ".join(CallOptions.__annotations__)
        raise TypeError(f"options of a call must be some of {known}, got {', '.join(sorted(unknown))}")
    for name, choices in (("channel_order", ChannelOrder), ("dtype", FloatType)):
        if options.get(name) not in (None, *get_args(choices)):
            raise InvalidInputError(
                f"{name} must be one of {get_args(choices)}, got {options.get(name)!r:.80}"
            )


@dataclass(frozen=True)
class ClientOptions:
    """How a client finds servers that fail, and how often it tries again.

    Attributes:
        max_attempts: How often one request may break off the connection or end a process of the server, the
            first time included: it may be its own fault. Servers that are full or away are tried again until
            the call's deadline.
        patience_s: How long a call waits for servers that are away if none has ever answered this client,
            which may have a wrong address. [s]
        keepalive_s: How long a connection with calls under way may be silent before the server is asked for a
            sign of life. `sapiens serve` consents to one per 5 s. A server that does not, such as a plain
            tritonserver, cuts the connection after some: what was under way is sent again, and this server is
            not asked any more. [s]
        keepalive_timeout_s: How long that sign may take. [s]
        resolve_every_s: How old the addresses of a name `dns:///...` may become while calls are made. [s]
        output: Where depth, normals and classes become as large as the image: "image", on the server, and
            they travel at that size; "network", here, by the same function, and the network's own arrays
            travel; "auto", wherever fewer bytes travel, but on the server if all servers are on this machine
            and less than 8 MiB would be saved.
        compression: What gRPC does to requests: helps pixels over slow lines, does nothing for JPEG. Whether
            replies are compressed is the server's choice: `--grpc-infer-response-compression-level`.
        shared_memory: Whether requests whose arrays have a megabyte or more, together with those of the
            answer, go through this machine's shared memory to servers on it that allow it, instead of through
            the connection. Triton from 26.04 on must be told to allow it: `--allow-client-shm=true`. What was
            taken for the largest request is kept for later ones until the client is closed.
        plaintext_secrets: Whether tokens and headers may be sent to other machines without TLS: where a
            service mesh or a sidecar encrypts what leaves this one.
        channel_options: Further options of gRPC's channels, such as (("grpc.optimization_target",
            "throughput"),); they take the place of the client's own.

    Raises:
        InvalidInputError: A number is not positive, or there is no such choice.
    """

    max_attempts: int = 4
    patience_s: float = 3.0
    keepalive_s: float = 10.0
    keepalive_timeout_s: float = 2.0
    resolve_every_s: float = 4.0
    output: Output = "auto"
    compression: Compression = "none"
    shared_memory: bool = True
    plaintext_secrets: bool = False
    channel_options: tuple[tuple[str, int | str], ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise InvalidInputError(f"max_attempts must be a whole number from 1, got {self}")
        for name in ("patience_s", "keepalive_s", "keepalive_timeout_s", "resolve_every_s"):
            period_s: object = getattr(self, name)
            if not isinstance(period_s, int | float) or not 0 < period_s <= MAX_TIMEOUT_S:
                raise InvalidInputError(
                    f"{name} must be above 0 and at most {MAX_TIMEOUT_S:g} seconds, got {self}"
                )
        for option in self.channel_options:
            if not (isinstance(option, tuple) and list(map(type, option)) in ([str, int], [str, str])):
                raise InvalidInputError(
                    f"channel_options must be pairs of a name and a value, got {option!r}"
                )
        for name, choices in (("output", Output), ("compression", Compression)):
            if getattr(self, name) not in get_args(choices):
                raise InvalidInputError(
                    f"{name} must be one of {get_args(choices)}, got {getattr(self, name)!r}"
                )


DEFAULTS = ClientOptions()
