"""The options of the command line that say where servers are, and who asks them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from sapiens_client.client import SapiensClient
from sapiens_client.connection.identity import TLS
from sapiens_client.connection.log import write_log
from sapiens_client.connection.options import ClientOptions
from sapiens_client.errors import InvalidInputError

_PANEL = "Connection"
_WRONG_USAGE = 2

Url = Annotated[
    str | None,
    typer.Option(
        help="host:port of the server; several with commas between; dns:///host:port for all addresses of a "
        "name; or another gRPC target such as unix:/path.",
        show_default="$SAPIENS_URL, else localhost:8001",
        rich_help_panel=_PANEL,
    ),
]
Encrypted = Annotated[
    bool,
    typer.Option("--tls", help="Encrypt; the other --tls options imply it.", rich_help_panel=_PANEL),
]
Authorities = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Authorities that may have signed the server's certificate, PEM; default: public ones.",
        rich_help_panel=_PANEL,
    ),
]
Certificate = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Certificate that tells the server who asks, PEM; needs --tls-key.",
        rich_help_panel=_PANEL,
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help="Private key of --tls-cert, PEM.",
        rich_help_panel=_PANEL,
    ),
]
ServerName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name in the server's certificate, where it is not that of the address.",
        rich_help_panel=_PANEL,
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        exists=True,
        dir_okay=False,
        help='File with the token that is sent as "Bearer TOKEN"; beyond this machine only encrypted.',
        show_default="$SAPIENS_TOKEN, else none",
        rich_help_panel=_PANEL,
    ),
]
PlaintextToken = Annotated[
    bool,
    typer.Option(
        "--plaintext-token",
        help="Send the token to other machines without TLS: where a service mesh or sidecar encrypts.",
        rich_help_panel=_PANEL,
    ),
]
HeaderLines = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="NAME:VALUE",
        help="Further header of every request, may be repeated. Others on this machine can see it: secrets "
        "belong in --token-file.",
        rich_help_panel=_PANEL,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Log every request on standard error, as SAPIENS_LOG=debug does.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Connection:
    """What the options say.

    Attributes:
        url: Addresses; None: the client's default.
        tls: Whether to encrypt, or how.
        token: What to send as "Bearer TOKEN"; None: the client's default.
        plaintext_token: Whether it may be sent to other machines without TLS, and headers.
        headers: Further headers of every request.
        verbose: Whether to tell of every request.
    """

    url: str | None = None
    tls: bool | TLS = False
    token: str | None = field(default=None, repr=False)
    plaintext_token: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verbose: bool = False

    def client(self, timeout_s: float) -> SapiensClient:
        """Return a client.

        Args:
            timeout_s: How long one image may take. [s]

        Raises:
            typer.Exit: The options cannot be used; the user was told why.
        """
        try:
            client = SapiensClient(
                self.url,
                timeout_s=timeout_s,
                tls=self.tls,
                token=self.token,
                headers=self.headers,
                options=ClientOptions(plaintext_secrets=self.plaintext_token),
            )
            if self.verbose:
                write_log("debug")
            return client
        except InvalidInputError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(_WRONG_USAGE) from error


def tls_from_options(
    *,
    tls: Encrypted = False,
    tls_ca: Authorities = None,
    tls_cert: Certificate = None,
    tls_key: Key = None,
    tls_server_name: ServerName = None,
) -> bool | TLS:
    """Put the options about encryption together; their own help describes them.

    Raises:
        typer.BadParameter: One is missing that another needs.
    """
    if (tls_cert is None) != (tls_key is None):
        given, missing = ("--tls-key", "--tls-cert") if tls_cert is None else ("--tls-cert", "--tls-key")
        raise typer.BadParameter(f"{given} needs {missing}: give both")
    how = TLS(tls_ca, tls_cert, tls_key, tls_server_name)
    return tls if how == TLS() else how


def connection_from_options(
    *,
    url: Url = None,
    tls: bool | TLS,
    token_file: TokenFile = None,
    plaintext_token: PlaintextToken = False,
    header: HeaderLines = None,
    verbose: Verbose = False,
) -> Connection:
    """Put all options together; their own help describes them.

    Raises:
        typer.BadParameter: The file holds no token, or a header no colon.
    """
    headers = dict(map(_header, header or ()))
    return Connection(url, tls, _token(token_file), plaintext_token, headers, verbose)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise typer.BadParameter("--header must be NAME:VALUE, got no colon in it")
    return name.strip(), value.strip()


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    if token := file.read_text(encoding="utf-8", errors="replace").strip():
        return token
    raise typer.BadParameter(f"--token-file must hold a token, got nothing in {str(file)!r}")
