from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from sapiens_core.tasks import TASKS, Task
from sapiens_export.model_config import model_configs, people_config
from sapiens_export.networks.config import HOG_DETECTOR, released_network
from sapiens_export.repository import write_released_configs
from sapiens_export.serving import Serving

COMMITTED = Path(__file__).parents[2] / "model_repository"
MEGABYTE = 1e6
ITEM_BYTES = {"TYPE_UINT8": 1, "TYPE_INT32": 4, "TYPE_FP16": 2, "TYPE_FP32": 4}


def parsed(text):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def configs(task, serving=None, runtime="python"):
    network = HOG_DETECTOR if task is Task.DETECT else released_network(task, "0.3b")
    texts = model_configs(network, serving or Serving(), runtime=runtime, parameters={"untrained": "true"})
    return {name: parsed(text) for name, text in texts.items()}


def test_committed_configs_are_the_generated_ones(tmp_path):
    write_released_configs(tmp_path)
    written = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("config.pbtxt")}
    committed = {path.relative_to(COMMITTED): path.read_text() for path in COMMITTED.rglob("config.pbtxt")}
    assert committed == written, "run `make configs`"


@pytest.mark.parametrize("task", TASKS)
def test_no_tensor_between_two_steps_is_large(task):
    for config in configs(task).values():
        for tensor in [*config.input, *config.output]:
            num_items = 1
            for dim in tensor.dims:
                num_items *= max(dim, 1)
            name = model_config_pb2.DataType.Name(tensor.data_type)
            assert num_items * ITEM_BYTES[name] <= 25 * MEGABYTE, tensor.name


@pytest.mark.parametrize("task", TASKS)
def test_every_tensor_of_an_ensemble_has_a_producer(task):
    spec, models = TASKS[task], configs(task)
    for name in (spec.task.value, spec.raw_name) if spec.raw_outputs else (spec.task.value,):
        ensemble = models[name]
        known = {tensor.name for tensor in ensemble.input}
        for step in ensemble.ensemble_scheduling.step:
            assert set(step.input_map.values()) <= known
            known |= set(step.output_map.values())
        assert {tensor.name for tensor in ensemble.output} <= known


@pytest.mark.parametrize("task", TASKS)
def test_no_ensemble_output_is_the_only_output_of_a_step_that_another_one_needs(task):
    for config in configs(task).values():
        steps = config.ensemble_scheduling.step
        needed = {tensor for step in steps for tensor in step.input_map.values()}
        outputs = {tensor.name for tensor in config.output}
        assert not [step.model_name for step in steps if set(step.output_map.values()) <= outputs & needed]


def test_the_operators_choices_reach_the_configs():
    serving = Serving(max_batch_size=7, queue_delay_us=1500, max_queue_size=9, cpu_instances=3)
    models = configs("depth", serving)
    assert models["depth_engine"].max_batch_size == 7
    assert models["depth_engine"].dynamic_batching.max_queue_delay_microseconds == 1500
    assert models["dense_preprocess"].instance_group[0].count == 3
    assert models["depth_postprocess"].dynamic_batching.default_queue_policy.max_queue_size == 9


def test_people_are_posed_in_batches_of_the_pose_engine_by_as_many_processes_as_told():
    serving = Serving(max_batch_size=7, people_instances=3)
    pose = released_network(Task.POSE, "0.3b")
    model = parsed(people_config(HOG_DETECTOR, pose, serving, parameters={"licence": "x"}))
    texts = {name: parameter.string_value for name, parameter in model.parameters.items()}
    assert model.instance_group[0].count == 3
    assert texts["pose_max_batch_size"] == "7"
    assert (texts["num_keypoints"], texts["detect_fit"], texts["licence"]) == ("308", "letterbox", "x")


def test_the_libtorch_runtime_names_its_backend_and_file():
    engine = configs("depth", runtime="torchscript")["depth_engine"]
    assert (engine.backend, engine.platform, engine.default_model_filename) == (
        "pytorch",
        "pytorch_libtorch",
        "model.pt",
    )


def test_facts_stand_in_the_ensembles_alone():
    models = configs("depth")
    marked = {
        name for name, config in models.items() if config.parameters["untrained"].string_value == "true"
    }
    assert marked == {"depth", "depth_raw"}
