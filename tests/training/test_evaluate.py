"""The command that measures the demo networks."""

from __future__ import annotations

import pytest

from training.evaluate import main


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--photograph", "portrait.jpg"), "--photograph, --bbox and --opinion must come together"),
        (("--opinion", "judges.npz"), "--photograph, --bbox and --opinion must come together"),
        (("--held-out", "held_out", "--keep", "kept"), "--keep must come with --photograph"),
    ],
)
def test_options_that_need_another_say_so(options, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evaluate", "networks", *options])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert message in capsys.readouterr().err
