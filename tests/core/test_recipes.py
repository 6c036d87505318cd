import math

import pytest

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.tensors import DTYPE_BYTES, HEATMAP_STRIDE
from sapiens_core.recipes.lookup import FAMILIES, first_recipe, first_recipes, recipe
from sapiens_core.recipes.recipe import Task


@pytest.mark.parametrize("task", first_recipes())
def test_a_named_network_shares_the_preprocessor_alone(task):
    spec, named = first_recipe(task), first_recipe(task).named("2b")
    steps = [(spec.engine, named.engine), (spec.postprocess, named.postprocess)]
    assert named.preprocess is spec.preprocess
    assert (named.name, named.raw_name) == (f"{task}_2b", f"{task}_2b_raw")
    for step, other in [pair for pair in steps if pair[0]]:
        assert other.name == step.name.replace(task, f"{task}_2b")
        assert (other.inputs, other.outputs) == (step.inputs, step.outputs)


def test_the_first_network_of_a_task_has_its_name():
    assert {spec.name for spec in first_recipes().values()} == set(Task)
    assert all(spec.name == task for task, spec in first_recipes().items())


@pytest.mark.parametrize("task", first_recipes())
def test_what_finishes_an_engines_outputs_is_a_function(task):
    spec = first_recipe(task)
    assert bool(spec.finish) == (spec.postprocess is not None)
    assert not spec.finish or callable(spec.finished)


def test_every_family_is_looked_up_by_its_tasks():
    for family, facts in FAMILIES.items():
        for task, spec in facts.recipes.items():
            assert recipe(family, task) is spec
            assert (spec.family, spec.task) == (family, task)


def test_all_kinds_of_detectors_have_one_recipe():
    assert recipe("nanodet", "detect") is recipe("rt-detr", "detect") is first_recipe("detect")


def test_what_there_is_no_recipe_of_is_refused():
    with pytest.raises(ValueError, match=r"family must be one of \['sapiens', 'sapiens2'\], got 'sapiens9'"):
        recipe("sapiens9", "depth")
    with pytest.raises(ValueError, match=r"task of sapiens must be one of .*'seg'.*, got 'hue'"):
        recipe("sapiens", "hue")
    with pytest.raises(ValueError, match=r"task must be one of .*'detect'.*, got 'hue'"):
        first_recipe("hue")


def test_heatmaps_are_as_large_as_postprocessors_take_them_for():
    assert first_recipe("pose").output_stride == HEATMAP_STRIDE


def test_backends_tell_engine_files_by_their_suffix():
    assert ENGINE_FILES["onnx"].endswith(".onnx")
    assert ENGINE_FILES["python"] == ENGINE_FILES["torchscript"] == "model.pt"


@pytest.mark.parametrize("family", FAMILIES)
def test_little_travels_between_the_steps_of_released_networks(family):
    """For one image, at most 25 MB into a step and out of it; logits of 29 classes would be 46."""
    for spec in FAMILIES[family].recipes.values():
        height, width = spec.network_hw
        sizes = {"H": height, "W": width, "h": height // spec.output_stride, "w": width // spec.output_stride}
        sizes["C"] = max(variant.num_outputs for variant in spec.variants)
        travelling = (spec.engine.inputs, spec.engine.outputs if spec.postprocess else ())
        for tensors in travelling:
            num_bytes = sum(
                DTYPE_BYTES[tensor.dtype] * math.prod(sizes.get(n, n) for n in tensor.dims)
                for tensor in tensors
            )
            assert num_bytes <= 25e6, (spec.task, num_bytes)
