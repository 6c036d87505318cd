"""Certificates, tokens and headers, with a real server that wants them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from real_servers import running
from typer.testing import CliRunner

import sapiens_client
from sapiens_client import (
    TLS,
    AuthenticationError,
    ClientOptions,
    InvalidInputError,
    SapiensClient,
    TLSError,
)
from sapiens_client.cli.commands import app
from sapiens_client.testing import FakeServer
from sapiens_client.wire.channels import channel_options
from sapiens_server import ServerOptions

SECRET = "s3cret-token"
RESTRICTED = f"--grpc-restricted-protocol=inference,model-config:authorization=Bearer {SECRET}"


@pytest.fixture(scope="module")
def tls_url(replicated, pki) -> Iterator[str]:
    """The address of a server that wants client certificates and a token."""
    arguments = (
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={pki / 'server.crt'}",
        f"--grpc-server-key={pki / 'server.key'}",
        f"--grpc-root-cert={pki / 'ca.crt'}",
        RESTRICTED,
    )
    with running(replicated, grpc_port=0, options=ServerOptions(arguments=arguments)) as server:
        yield server.grpc_url


@pytest.fixture(scope="module")
def restricted_url(replicated) -> Iterator[str]:
    options = ServerOptions(arguments=(RESTRICTED,))
    with running(replicated, grpc_port=0, options=options) as server:
        yield server.grpc_url


@pytest.fixture
def command(pki, photo, tmp_path, monkeypatch):
    """Run `sapiens normal` about the photo, in a folder that holds certificates and the token in a file."""
    folder = tmp_path / "work"
    folder.mkdir()
    for file in pki.iterdir():
        (folder / file.name).symlink_to(file)
    Image.fromarray(photo).save(folder / "photo.png")
    (folder / "token").write_text(f"{SECRET}\n")
    monkeypatch.chdir(folder)

    def run(url, *options, token=""):
        return CliRunner(env={"SAPIENS_URL": url, "SAPIENS_TOKEN": token}).invoke(
            app, ["normal", "photo.png", *options]
        )

    return run


def mutual(pki: Path, **changes: object) -> TLS:
    files = {
        "root_certificates": pki / "ca.crt",
        "client_certificate": pki / "client.crt",
        "client_key": (pki / "client.key").read_bytes(),
    }
    return TLS(**{**files, **changes})


def test_certificates_and_token_open_the_door(tls_url, pki, photo):
    with SapiensClient(tls_url, tls=mutual(pki, server_name="gpu.example"), token=lambda: SECRET) as client:
        assert client.ready()
        assert client.normal(photo).timing.attempts == 1


def test_every_mistake_about_certificates_is_named_and_sent_once(tls_url, restricted_url, pki, photo):
    nobody = {"client_certificate": None, "client_key": None}
    mistakes = [
        (tls_url, False, "hung up .* pass tls if"),
        (tls_url, mutual(pki, **nobody), "hung up .* client certificate that it accepts"),
        (tls_url, mutual(pki, root_certificates=pki / "other.crt"), "VERIFY_FAILED.*root_certificates"),
        (tls_url, mutual(pki, server_name="else.example"), "Hostname.*server_name"),
        (tls_url, mutual(pki, client_key=pki / "server.key"), "fit together"),
        (restricted_url, mutual(pki), "must speak TLS"),
    ]
    for url, tls, sentence in mistakes:
        with SapiensClient(url, tls=tls) as client, pytest.raises(TLSError, match=sentence) as caught:
            client.normal(photo)
        assert (caught.value.attempts, caught.value.url) == (1, url)


@pytest.mark.parametrize(
    ("token", "sentence"), [(None, "no token was sent"), ("wr0ng-token", "not the right one")]
)
def test_a_wrong_token_is_an_error_of_its_own_and_sent_once(restricted_url, photo, token, sentence, caplog):
    caplog.set_level(logging.DEBUG)
    with (
        SapiensClient(restricted_url, token=token) as client,
        pytest.raises(AuthenticationError, match=f"authorization.*{sentence}") as caught,
    ):
        client.normal(photo)
    assert caught.value.attempts == 1
    assert "wr0ng" not in caplog.text + str(caught.value)


@pytest.mark.parametrize("options", [{"token": "x" * 20_000}, {"headers": {"x-key": "x" * 20_000}}])
def test_a_secret_that_is_too_long_for_servers_is_called_so(restricted_url, photo, options):
    with SapiensClient(restricted_url, **options) as client, pytest.raises(InvalidInputError) as caught:
        client.depth(photo)
    assert "headers of this size" in str(caught.value)
    assert "x" * 100 not in str(caught.value)


def test_the_right_token_or_tritons_own_header_is_accepted(restricted_url, photo):
    header = {"Triton-Grpc-Protocol-Authorization": f"Bearer {SECRET}"}
    with SapiensClient(restricted_url, token=SECRET) as client:
        client.normal(photo)
    with SapiensClient(restricted_url, headers=header) as client:
        client.normal(photo)


@pytest.mark.parametrize(
    "secret", [{"token": SECRET}, {"headers": {"x-key": SECRET}}], ids=["token", "header"]
)
def test_secrets_do_not_leave_this_machine_in_the_open(secret):
    for url in ("gpu-1:8001", ["localhost:8001", "10.0.0.1:8001"], "dns:///gpu:8001"):
        with pytest.raises(InvalidInputError, match=r"must travel encrypted .*; pass tls") as caught:
            SapiensClient(url, **secret)
        assert SECRET not in str(caught.value)
    for url in ("localhost:8001", "127.0.0.2:1", "[::1]:8001", "unix:/run/triton"):
        SapiensClient(url, **secret).close()


def test_secrets_travel_in_the_open_where_the_caller_says_that_something_else_encrypts():
    for secret in ({"token": SECRET}, {"headers": {"x-key": SECRET}}):
        SapiensClient("gpu-1:8001", options=ClientOptions(plaintext_secrets=True), **secret).close()


def test_the_token_in_the_environment_is_sent_unless_another_is_given(monkeypatch, photo):
    monkeypatch.setenv("SAPIENS_TOKEN", SECRET)
    with FakeServer() as server:
        server.require(f"Bearer {SECRET}")
        with SapiensClient(server.url) as client:
            assert client.depth(photo).timing.attempts == 1
        with SapiensClient(server.url, token="wr0ng") as client, pytest.raises(AuthenticationError):
            client.depth(photo)
    with pytest.raises(InvalidInputError, match=r"SAPIENS_TOKEN.* must travel encrypted"):
        SapiensClient("gpu-1:8001")
    monkeypatch.setenv("SAPIENS_TOKEN", "")
    SapiensClient("gpu-1:8001").close()


def test_servers_are_told_which_release_asks(photo):
    with FakeServer() as server, SapiensClient(server.url) as client:
        client.depth(photo)
        agent = server.requests[0].metadata["user-agent"]
    assert agent.startswith(f"sapiens-client/{sapiens_client.__version__} ")


def test_further_options_reach_grpc_in_place_of_the_clients_own(photo):
    options = ClientOptions(channel_options=(("grpc.primary_user_agent", "mesh"), ("grpc.enable_retries", 1)))
    with FakeServer() as server, SapiensClient(server.url, options=options) as client:
        client.depth(photo)
        assert server.requests[0].metadata["user-agent"].startswith("mesh ")
        (replica,) = client._session._attempts._replicas.listed()
        chosen = channel_options(client._transport._settings, replica.endpoint)
    assert [value for name, value in chosen if name == "grpc.enable_retries"] == [1]


@pytest.mark.parametrize("wrong", [{"token": SECRET + "\n"}, {"headers": {"x-key": SECRET + "\n"}}])
def test_what_cannot_be_sent_is_refused_without_being_shown(wrong):
    with pytest.raises(InvalidInputError, match="printable ASCII") as caught:
        SapiensClient("localhost:8001", **wrong)
    assert SECRET not in str(caught.value)


def test_certificates_are_read_when_the_client_is_made(pki):
    with pytest.raises(InvalidInputError, match=r"root_certificates .* got '/no/ca\.crt': No such file"):
        SapiensClient(tls=TLS("/no/ca.crt"))
    with pytest.raises(InvalidInputError, match="root_certificates must be PEM"):
        SapiensClient(tls=TLS(b"junk"))
    with pytest.raises(InvalidInputError, match="given together, got only client_key"):
        TLS(client_key=b"")
    assert "PRIVATE KEY" not in repr(mutual(pki))


CERTIFICATES = ("--tls-ca", "ca.crt", "--tls-cert", "client.crt", "--tls-key", "client.key")


@pytest.mark.parametrize(
    ("options", "token"),
    [(("--token-file", "token"), "wr0ng"), (("--tls", "--tls-server-name", "gpu.example"), SECRET)],
    ids=["file", "environment"],
)
def test_the_command_opens_the_door_with_files_and_a_token_from_elsewhere(command, tls_url, options, token):
    done = command(tls_url, *CERTIFICATES, *options, token=token)
    assert (done.exit_code, done.stdout) == (0, "out/photo.png_normal.png\n"), done.stderr


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (CERTIFICATES, AuthenticationError, "no token was sent"),
        (("--tls", "--token-file", "token"), TLSError, "authority that is trusted here"),
        (("--tls-ca", "ca.crt", "--token-file", "token"), TLSError, "client certificate that it accepts"),
    ],
)
def test_the_command_stops_at_a_closed_door(command, tls_url, options, error, sentence):
    done = command(tls_url, *options)
    assert (done.exit_code, done.stdout, type(done.exception)) == (1, "", error)
    assert sentence in str(done.exception)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--tls-key", "client.key"), "--tls-key needs --tls-cert: give both"),
        (("--tls-cert", "client.crt"), "--tls-cert needs --tls-key: give both"),
        (("--tls-ca", "absent"), "Invalid value for '--tls-ca': file 'absent' does not exist."),
        (("--tls-ca", "token"), "root_certificates must be PEM"),
        (("--token-file", "."), "Invalid value for '--token-file': file '.' is a directory."),
        (("--token-file", "empty"), "--token-file must hold a token, got nothing in 'empty'"),
        (("--token-file", "photo.png"), "token must be printable ASCII"),
        (("--token-file", "token", "--url", "gpu-1:8001"), "must travel encrypted to other machines"),
        (
            ("--token-file", "token", "--url", "gpu-1:8001", "--plaintext-token", "--timeout", "0"),
            "timeout_s",
        ),
        (("--token", SECRET), "No such option: --token"),
    ],
)
def test_the_command_refuses_wrong_options_about_the_door(command, dead_url, options, sentence):
    Path("empty").touch()
    done = command(dead_url, *options)
    assert done.exit_code == 2
    words = " ".join(done.stderr.replace("│", " ").split())
    assert sentence in words
    assert SECRET not in words
