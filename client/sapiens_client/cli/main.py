"""The command `sapiens`: loads the part that a sub-command belongs to, and only names the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import import_module

import typer

from sapiens_client.cli.group import ABOUT, new_app, unwrapped
from sapiens_client.cli.streams import open_streams
from sapiens_client.errors import SapiensError

_OTHER_PARTS: Mapping[str, str] = {
    "export": "sapiens_export.commands.export",
    "verify": "sapiens_export.commands.verify",
    "zoo": "sapiens_export.commands.zoo",
    "serve": "sapiens_server.cli",
    "up": "sapiens_export.commands.up",
    "doctor": "sapiens_server.doctor.command",
    "plan": "sapiens_export.commands.capacity",
    "demo": "sapiens_demo.command",
}
# `up` hands the options that it does not know to `serve`.
_SETTINGS: Mapping[str, dict[str, bool]] = {"up": {"allow_extra_args": True, "ignore_unknown_options": True}}


def main() -> None:
    """Run the command line; an error of the SDK or of the file system is one line and exit status 1."""
    open_streams()
    named = [each for each in sys.argv[1:] if not each.startswith("-")][:1]
    is_completing = "_SAPIENS_COMPLETE" in os.environ
    app = app_with(list(ABOUT) if is_completing else named)
    try:
        app()
    except (SapiensError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(1) from None


def app_with(wanted: list[str]) -> typer.Typer:
    """Return the command with the sub-commands that are wanted; the others are there by name if none is."""
    if not {*wanted} & {*ABOUT}:
        listing = new_app()
        for name, about in ABOUT.items():
            listing.command(name, help=about)(_listed)
        return listing
    app: typer.Typer = import_module("sapiens_client.cli.commands").app
    for name in wanted:
        if name in _OTHER_PARTS:
            command = getattr(import_module(_OTHER_PARTS[name]), f"{name}_command")
            app.command(name, help=unwrapped(command.__doc__), context_settings=_SETTINGS.get(name))(command)
    return app


def _listed() -> None:
    """Do nothing: it stands for a command in the list of all."""
