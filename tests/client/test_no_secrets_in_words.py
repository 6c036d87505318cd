"""No command takes a secret on its command line, where everybody on the machine can read it."""

from __future__ import annotations

import re

import pytest
import typer

from sapiens_client.cli.group import ABOUT
from sapiens_client.cli.main import app_with

SECRET = re.compile(r"token|secret|password|key", re.IGNORECASE)


@pytest.mark.parametrize("name", sorted(ABOUT))
def test_options_about_secrets_take_files(name):
    group = typer.main.get_command(app_with([name, *ABOUT]))
    command = group.commands[name]
    about_secrets = [
        parameter
        for parameter in command.params
        if any(SECRET.search(option) for option in parameter.opts)
        and not getattr(parameter, "is_flag", False)
        and "keypoint" not in parameter.name
    ]
    for parameter in about_secrets:
        assert parameter.metavar == "FILE", parameter.opts
    if name == "serve":
        assert {parameter.name for parameter in about_secrets} == {"tls_key", "admin_key_file"}
