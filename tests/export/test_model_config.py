from pathlib import Path
from pkgutil import resolve_name
from typing import get_args

import pytest
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from sapiens_core.contract.engines import Runtime
from sapiens_core.contract.settings import warmup_sizes
from sapiens_core.recipes.lookup import FAMILIES, recipe
from sapiens_core.recipes.recipe import Task
from sapiens_export.exporter import EngineOptions, model_info
from sapiens_export.networks.config import NANODET, released_config, released_network
from sapiens_export.repository.combined import people_config
from sapiens_export.repository.configs import model_configs
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.released import write_released_configs
from sapiens_export.repository.serving import Serving
from sapiens_export.repository.write import write_models

COMMITTED = Path(__file__).parents[2] / "model_repository"
MEGABYTE = 1e6
ALL = [(family, task) for family, facts in FAMILIES.items() for task in facts.recipes] + [
    ("sapiens", "detect")
]
ITEM_BYTES = {"TYPE_UINT8": 1, "TYPE_INT32": 4, "TYPE_FP16": 2, "TYPE_FP32": 4}


def parsed(text):
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def texts_in(repository):
    paths = [*repository.rglob("config.pbtxt"), *repository.rglob("model.py")]
    return {path.relative_to(repository): path.read_text() for path in paths}


def configs(task, serving=None, runtime="python", family="sapiens", **options):
    sizes = {"sapiens": "0.3b", "sapiens2": "1b"}
    network = NANODET if task == Task.DETECT else released_config(task, sizes[family], family)
    parameters = {"untrained": "true"}
    texts = model_configs(network, serving or Serving(), runtime=runtime, parameters=parameters, **options)
    return {name: parsed(text) for name, text in texts.items()}


def test_committed_configs_are_the_generated_ones(tmp_path):
    write_released_configs(tmp_path)
    committed, written = texts_in(COMMITTED), texts_in(tmp_path)
    assert committed == written, "run `make configs`"
    assert {path.name for path in written} == {"config.pbtxt", "model.py"}


@pytest.mark.parametrize(("family", "task"), ALL)
def test_no_tensor_between_two_steps_is_large(family, task):
    for config in configs(task, family=family).values():
        for tensor in [*config.input, *config.output]:
            num_items = 1
            for dim in tensor.dims:
                num_items *= max(dim, 1)
            name = model_config_pb2.DataType.Name(tensor.data_type)
            assert num_items * ITEM_BYTES[name] <= 25 * MEGABYTE, tensor.name


@pytest.mark.parametrize(("family", "task"), ALL)
def test_every_tensor_of_an_ensemble_has_a_producer(family, task):
    spec, models = recipe(family, task), configs(task, family=family)
    for name in (spec.name, spec.raw_name) if spec.raw_outputs else (spec.name,):
        ensemble = models[name]
        known = {tensor.name for tensor in ensemble.input}
        for step in ensemble.ensemble_scheduling.step:
            assert set(step.input_map.values()) <= known
            known |= set(step.output_map.values())
        assert {tensor.name for tensor in ensemble.output} <= known


@pytest.mark.parametrize(("family", "task"), ALL)
def test_no_ensemble_output_is_the_only_output_of_a_step_that_another_one_needs(family, task):
    for config in configs(task, family=family).values():
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
    model = parsed(people_config(NANODET, pose, serving, parameters={"licence": "x"}))
    texts = {name: parameter.string_value for name, parameter in model.parameters.items()}
    assert model.instance_group[0].count == 3
    assert texts["pose_max_batch_size"] == "7"
    assert (texts["num_keypoints"], texts["detect_fit"], texts["licence"]) == ("308", "letterbox", "x")
    assert texts["detect_min_score"] == "0.4"


@pytest.mark.parametrize(
    ("runtime", "backend", "platform", "file"),
    [
        ("python", "python", "", ""),
        ("torchscript", "pytorch", "pytorch_libtorch", "model.pt"),
        ("aoti", "pytorch", "torch_aoti", "model.pt2"),
        ("onnx", "onnxruntime", "onnxruntime_onnx", "model.onnx"),
        ("tensorrt", "tensorrt", "tensorrt_plan", "model.plan"),
    ],
)
def test_every_runtime_names_its_backend_and_file(runtime, backend, platform, file):
    engine = configs("depth", runtime=runtime)["depth_engine"]
    assert (engine.backend, engine.platform, engine.default_model_filename) == (backend, platform, file)
    assert engine.max_batch_size == 4
    assert [list(tensor.dims) for tensor in engine.input] == [[1024, 768, 3]]


def test_an_aoti_engine_is_triton_s_and_known_by_places_or_our_own_and_known_by_names():
    models = configs("pose", runtime="aoti")
    engine, (_, step, _) = models["pose_engine"], models["pose"].ensemble_scheduling.step
    outputs = [f"OUTPUT__{index}" for index in range(4)]
    assert [tensor.name for tensor in (*engine.input, *engine.output)] == ["INPUT__0", *outputs]
    assert engine.model_warmup[0].inputs["INPUT__0"].zero_data
    names = dict(zip(outputs, ("peaks", "pose_engine_scores", "patches", "blurred_max"), strict=True))
    assert (dict(step.input_map), dict(step.output_map)) == ({"INPUT__0": "pixels"}, names)
    portable = configs("pose", Serving(portable=True), "aoti")
    assert portable == configs("pose", runtime="python") == configs("pose", Serving(portable=True), "python")


def test_libtorch_uses_the_plain_executor():
    engine = configs("depth", runtime="torchscript")["depth_engine"]
    parameters = {name: parameter.string_value for name, parameter in engine.parameters.items()}
    assert parameters == {"INFERENCE_MODE": "true", "DISABLE_OPTIMIZED_EXECUTION": "true"}


def test_onnx_runtime_may_compile_with_tensorrt_in_the_types_of_the_engine():
    engine = configs("depth", Serving(tensorrt_accelerator=True), "onnx")["depth_engine"]
    (accelerator,) = engine.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    # With it, TensorRT would choose the types of layers, also of those that must stay float32.
    assert "precision_mode" not in accelerator.parameters
    # Else a larger batch than the first one would be compiled for while its request waits.
    profile = {name: accelerator.parameters[f"trt_profile_{name}_shapes"] for name in ("min", "opt", "max")}
    assert profile == {
        "min": "pixels:1x1024x768x3",
        "opt": "pixels:4x1024x768x3",
        "max": "pixels:4x1024x768x3",
    }
    # A cache of engines would take networks of one shape for one network.
    assert "trt_engine_cache_enable" not in accelerator.parameters


@pytest.mark.parametrize(
    ("runtime", "warmup", "is_told"),
    [("onnx", (1,), True), ("torchscript", (1, 4), True), ("onnx", (), False), ("python", (1,), False)],
)
def test_who_exports_an_engine_that_triton_warms_up_is_told(runtime, warmup, is_told, tmp_path):
    config, serving = released_network(Task.DEPTH, "0.3b"), Serving(warmup=warmup)
    new = InstalledEngine(
        config, model_info(config, EngineOptions(runtime=runtime), is_trained=False), serving
    )
    notes = write_models(tmp_path, new, engine=None, facts={}).notes
    text = (tmp_path / "depth_engine" / "config.pbtxt").read_text()
    assert [note.startswith("Triton warms depth_engine up itself") for note in notes] == [True] * is_told
    assert ("core may end the whole server" in text) == is_told
    assert len(parsed(text).model_warmup) == len(warmup) * is_told


@pytest.mark.parametrize("runtime", ["python", "torchscript", "tensorrt"])
def test_other_engines_have_no_accelerator(runtime):
    engine = configs("depth", Serving(tensorrt_accelerator=True), runtime)["depth_engine"]
    assert not engine.HasField("optimization")


@pytest.mark.parametrize("runtime", get_args(Runtime))
@pytest.mark.parametrize(
    ("serving", "groups"),
    [
        (Serving(), [("KIND_AUTO", 1, [])]),
        (Serving(instances=2), [("KIND_AUTO", 2, [])]),
        (Serving(gpus=(0, 1)), [("KIND_GPU", 1, [0, 1])]),
        (Serving(instances=3, gpus=(1,)), [("KIND_GPU", 3, [1])]),
    ],
    ids=["where there is room", "twice there", "on two GPUs", "three times on one"],
)
def test_engines_run_as_often_as_the_operator_says_and_where(serving, groups, runtime):
    models = configs("depth", serving, runtime)
    kinds = model_config_pb2.ModelInstanceGroup.Kind
    found = [
        (kinds.Name(group.kind), group.count, list(group.gpus))
        for group in models["depth_engine"].instance_group
    ]
    assert found == groups
    for step in ("dense_preprocess", "depth_postprocess"):
        assert [kinds.Name(group.kind) for group in models[step].instance_group] == ["KIND_CPU"]


@pytest.mark.parametrize(("size", "profiles"), [(1, ["0"]), (4, ["0", "1"])])
def test_tensorrt_is_told_of_all_profiles_of_a_plan(size, profiles):
    serving = Serving(max_batch_size=size)
    for runtime in get_args(Runtime):
        (group,) = configs("depth", serving, runtime)["depth_engine"].instance_group
        assert list(group.profile) == (profiles if runtime == "tensorrt" else [])


@pytest.mark.parametrize(("family", "task"), ALL)
def test_results_are_finished_where_the_operator_says(family, task):
    serving, spec = Serving(finish="gpu", instances=2, gpus=(1,), cpu_instances=3), recipe(family, task)
    if not spec.torch_finish:
        with pytest.raises(ValueError, match=f"finish of {task} must be cpu"):
            configs(task, serving, family=family)
        return
    models = configs(task, serving, "torchscript", family)
    step, engine = models[f"{task}_postprocess"], models[f"{task}_engine"]
    assert step.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value == "no"
    assert callable(resolve_name(step.parameters["finish"].string_value))
    assert step.instance_group == engine.instance_group
    usual = configs(task, family=family)
    assert [step.input, step.output] == [
        usual[step.name].input,
        usual[step.name].output,
    ]
    assert "FORCE_CPU_ONLY_INPUT_TENSORS" not in usual[step.name].parameters


def test_the_built_in_detector_runs_where_other_networks_do():
    (group,) = configs(Task.DETECT, Serving(gpus=(0,), instances=2, cpu_instances=3))[
        "detect_engine"
    ].instance_group
    assert (group.kind, group.count) == (model_config_pb2.ModelInstanceGroup.KIND_GPU, 2)


@pytest.mark.parametrize("runtime", ["torchscript", "onnx", "tensorrt"])
@pytest.mark.parametrize("sizes", [(), (1,), (1, 4)])
def test_the_engine_alone_is_warmed_up_with_batches_of_zeros(sizes, runtime):
    models = configs("depth", Serving(warmup=sizes), runtime)
    samples = models.pop("depth_engine").model_warmup
    assert [sample.batch_size for sample in samples] == list(sizes)
    for sample in samples:
        assert list(sample.inputs["pixels"].dims) == [1024, 768, 3]
        assert sample.inputs["pixels"].zero_data
    assert not any(config.model_warmup for config in models.values())


@pytest.mark.parametrize("sizes", [(), (1,), (1, 4)])
def test_the_python_engine_warms_itself_up(sizes):
    engine = configs("depth", Serving(warmup=sizes))["depth_engine"]
    args = {"model_config": json_format.MessageToJson(engine, preserving_proto_field_name=True)}
    assert warmup_sizes(args) == sizes
    assert not engine.model_warmup


def test_facts_stand_in_the_ensembles_alone():
    models = configs("depth")
    marked = {
        name for name, config in models.items() if config.parameters["untrained"].string_value == "true"
    }
    assert marked == {"depth", "depth_raw"}
