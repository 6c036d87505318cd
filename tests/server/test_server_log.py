import pytest

from sapiens_server.server_log import failure_reasons

PREFIX = "E1128 10:00:00.000000 123 model_lifecycle.cc:654] "
INTERPRETER = "PyTorch execute failure: The following operation failed in the TorchScript interpreter."
FRAMES = {
    "TorchScript": "Traceback of TorchScript (most recent call last):\n  File a.py, line 3\n    return x",
    "its own and original code": (
        "Traceback of TorchScript, serialized code (most recent call last):\n  File x\n    ~~~ <--- HERE\n\n"
        "Traceback of TorchScript, original code (most recent call last):\n  /a/b.py(3): forward"
    ),
    "Python": "Traceback (most recent call last):\n  File a.py, line 3",
}


@pytest.mark.parametrize("frames", FRAMES)
def test_the_reason_of_a_failed_pass_is_the_last_line(frames):
    failure = f"{INTERPRETER}\n{FRAMES[frames]}\nRuntimeError: CUDA out of memory."
    escaped = f"failed to load 'depth_engine' version 1: Internal: {failure}".replace("\n", "\\n")
    (reason,) = failure_reasons([f'{PREFIX}"{escaped}"'])
    assert reason == (
        f"failed to load 'depth_engine' version 1: {INTERPRETER} RuntimeError: CUDA out of memory."
    )
