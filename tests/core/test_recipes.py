import pytest

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.recipes.lookup import TASKS
from sapiens_core.recipes.recipe import Task


@pytest.mark.parametrize("task", TASKS)
def test_a_named_network_shares_the_preprocessor_alone(task):
    spec, named = TASKS[task], TASKS[task].named("2b")
    steps = [(spec.engine, named.engine), (spec.postprocess, named.postprocess)]
    assert named.preprocess is spec.preprocess
    assert (named.name, named.raw_name) == (f"{task}_2b", f"{task}_2b_raw")
    for step, other in [pair for pair in steps if pair[0]]:
        assert other.name == step.name.replace(task, f"{task}_2b")
        assert (other.inputs, other.outputs) == (step.inputs, step.outputs)


def test_the_first_network_of_a_task_has_its_name():
    assert [spec.name for spec in TASKS.values()] == list(Task)


def test_backends_tell_engine_files_by_their_suffix():
    assert ENGINE_FILES["onnx"].endswith(".onnx")
    assert ENGINE_FILES["python"] == ENGINE_FILES["torchscript"] == "model.pt"
