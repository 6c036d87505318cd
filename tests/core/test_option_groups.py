"""Options of a command in groups."""

from dataclasses import dataclass
from typing import Annotated

import pytest
from typer import Argument, Option, Typer
from typer.testing import CliRunner

from sapiens_core.option_groups import with_option_groups


@dataclass(frozen=True)
class What:
    task: Annotated[str, Argument()]
    size: Annotated[str | None, Option(help="How large.")] = None


@dataclass(frozen=True)
class How:
    batch: Annotated[int, Option("--batch", min=1)] = 4


@pytest.fixture
def calls():
    return []


@pytest.fixture
def run(calls):
    @with_option_groups
    def command(what: What, how: How, is_loud: Annotated[bool, Option("--loud")] = False) -> None:
        """Do it."""
        calls.append((what, how, is_loud))

    app = Typer(rich_markup_mode=None)
    app.command()(command)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_fields_are_options(run, calls):
    assert run("depth", "--batch", "2", "--loud").exit_code == 0
    assert calls == [(What("depth"), How(2), True)]


def test_defaults_are_those_of_the_fields(run, calls):
    run("depth", "--size", "1b")
    assert calls == [(What("depth", "1b"), How(), False)]


@pytest.mark.parametrize("arguments", [(), ("depth", "--batch", "0"), ("depth", "--what", "x")])
def test_what_no_field_takes_is_wrong_usage(arguments, run, calls):
    assert run(*arguments).exit_code == 2
    assert not calls


def test_the_help_is_the_command_s_with_that_of_the_fields(run):
    text = run("--help").output
    assert "Do it." in text
    assert "How large." in text
