"""What servers refuse whoever asks: the SDK tells the reasons apart and sends nothing twice."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from figures import Figure, exactly
from load import Sizes
from servers import Fleet, answering_server, new_image

from sapiens_client import TLS, SapiensClient, SapiensError

_TOKEN = "the-right-one"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def refusals(_: Sizes) -> list[Figure]:
    """Wrong token, no token, wrong authority, no TLS, where token and TLS are wanted; then all is right."""
    with tempfile.TemporaryDirectory() as folder:
        _make_certificates(Path(folder))
        trusting, doubting = (TLS(Path(folder, f"{name}.crt")) for name in ("ca", "other"))
        with Fleet(*_guards(Path(folder))) as fleet:
            server = fleet.start()
            seen = {
                "wrong token": _refusal(SapiensClient(server.grpc_url, tls=trusting, token="a-wrong-one")),
                "no token": _refusal(SapiensClient(server.grpc_url, tls=trusting)),
                "wrong authority": _refusal(SapiensClient(server.grpc_url, tls=doubting, token=_TOKEN)),
                "no TLS": _refusal(SapiensClient(server.grpc_url, token=_TOKEN)),
            }
            with SapiensClient(server.grpc_url, tls=trusting, token=_TOKEN) as client:
                image = new_image()
                accepted = answering_server(image, client.depth(image)) == server.pid
    figures = [Figure(what, f"{type(error).__name__}: {error}") for what, error in seen.items()]
    figures += [exactly(f"tries with {what}", error.attempts, 1) for what, error in seen.items()]
    kinds = {(type(error).__name__, str(error)) for error in seen.values()}
    return [
        *figures,
        exactly("distinct errors", len(kinds), 4),
        exactly("right token and authority accepted", accepted, True),
    ]


def _refusal(client: SapiensClient) -> SapiensError:
    with client:
        try:
            client.depth(new_image(), timeout_s=10)
        except SapiensError as error:
            return error
    return SapiensError("none: the call was answered")


def _guards(folder: Path) -> tuple[str, ...]:
    return (
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={folder / 'server.crt'}",
        f"--grpc-server-key={folder / 'server.key'}",
        f"--grpc-root-cert={folder / 'ca.crt'}",
        f"--grpc-restricted-protocol=inference,model-config:authorization=Bearer {_TOKEN}",
    )


def _make_certificates(folder: Path) -> None:
    """Write the authorities `ca` and `other`, and the certificate `server` by `ca`."""
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        _openssl(folder, "req", "-x509", *_KEY, *files, "-days", "2", "-subj", f"/CN={name}")
    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1")
    _openssl(folder, "req", *_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=server")
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "server.ext")
    _openssl(folder, "x509", "-req", "-in", "server.csr", *signed, "-out", "server.crt")


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
