"""What an operator may choose, in Python, in a file and as flags."""

import re

import pytest

from sapiens_export.repository import serving
from sapiens_export.repository.serving import Serving, chosen_serving, read_serving


@pytest.fixture
def file(tmp_path):
    return tmp_path / "serving.yaml"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be from 1 to 2147483647, got 0"),
        ({"max_queue_size": -1}, "max_queue_size must be from 1 to 2147483647, got -1"),
        ({"instances": 0}, "instances must be from 1 to 2147483647, got 0"),
        ({"queue_delay_us": -5}, "queue_delay_us must be from 0 to 2147483647, got -5"),
        ({"gpus": (0, -1)}, r"an id of gpus must be from 0 to 2147483647, got -1"),
        ({"gpus": (1, 1)}, r"gpus must be different ids, got [1, 1]"),
        ({"warmup": (1, 8)}, "warmup must be different batch sizes from 1 to max_batch_size, 4, got [1, 8]"),
        ({"warmup": (0,)}, "from 1 to max_batch_size, 4, got [0]"),
        ({"warmup": (2, 2)}, "got [2, 2]"),
        ({"finish": "tpu"}, "finish must be one of ('auto', 'cpu', 'gpu'), got 'tpu'"),
    ],
)
def test_choices_that_cannot_be_made_are_refused(choice, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Serving(**choice)


def test_a_file_gives_what_is_in_it(file):
    file.write_text(
        "max_batch_size: 8\ngpus: [0, 1]\nwarmup: [1, 8]\ntensorrt_accelerator: true\nfinish: gpu\n"
    )
    assert Serving(**read_serving(file)) == Serving(
        max_batch_size=8, gpus=(0, 1), warmup=(1, 8), tensorrt_accelerator=True, finish="gpu"
    )


def test_a_file_has_the_words_of_the_flags_for_empty_lists(file):
    file.write_text("gpus: all\nwarmup: none\n")
    assert read_serving(file) == {"gpus": (), "warmup": ()}


def test_an_empty_file_chooses_nothing(file):
    file.write_text("# nothing yet\n")
    assert read_serving(file) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("batch: 4", r"keys in .*serving.yaml must be of max_batch_size, .*, got ['batch']"),
        ("max_batch_size: four", "max_batch_size in .* must be a whole number, got 'four'"),
        ("max_batch_size: true", "must be a whole number, got True"),
        ("max_batch_size: 4.0", "must be a whole number, got 4.0"),
        ("gpus: 0", "gpus in .* must be a list of whole numbers such as [0, 1], or all, got 0"),
        ("gpus: none", "such as [0, 1], or all, got 'none'"),
        ("gpus: [0, false]", r"must be a list of whole numbers such as [0, 1], or all, got [0, False]"),
        ("warmup: [a]", r"must be a list of whole numbers such as [0, 1], or none, got ['a']"),
        ("instances: 1\ngpus: all\ninstances: 2", "must be different, got ['instances'] more than once"),
        ("tensorrt_accelerator: 1", "must be true or false, got 1"),
        ("- 4", r"must hold lines `key: value`, got [4]"),
        ("max_batch_size: [", "must be a YAML file, got: .*line 1"),
        ("instances: !!python/object/apply:os.getcwd []", "must be a YAML file"),
    ],
)
def test_a_file_with_anything_else_is_refused(text, message, file):
    file.write_text(text)
    with pytest.raises(ValueError, match=message.replace("[", r"\[").replace("]", r"\]")):
        read_serving(file)


def test_a_file_that_is_no_text_is_refused(file):
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="must be a YAML file"):
        read_serving(file)


def test_flags_override_the_file(file):
    file.write_text("max_batch_size: 8\ngpus: [0, 1]\nwarmup: [8]\ninstances: 2\n")
    given = {"max_batch_size": 2, "warmup": "none", "gpus": "all", "url": "no field"}
    assert chosen_serving(given, file) == Serving(max_batch_size=2, warmup=(), gpus=(), instances=2)


def test_lists_are_flags_with_commas():
    assert chosen_serving({"gpus": "0,2", "warmup": "1, 4"}, None) == Serving(gpus=(0, 2), warmup=(1, 4))


@pytest.mark.parametrize("text", ["", "0,", "a", "0-1", "-1"])
def test_lists_of_something_else_are_refused(text):
    with pytest.raises(ValueError, match=f"--gpus must be numbers such as 1,4, or all, got '{text}'"):
        chosen_serving({"gpus": text}, None)


@pytest.mark.parametrize(("processors", "processes"), [(1.5, 2), (16.0, 8)])
def test_processes_may_follow_the_processors_at_hand(file, monkeypatch, processors, processes):
    monkeypatch.setattr(serving, "num_processors", lambda: processors)
    file.write_text("cpu_instances: auto\n")
    assert read_serving(file) == {"cpu_instances": processes}
