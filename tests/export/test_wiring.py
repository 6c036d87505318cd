"""Ensembles whose models do not fit together, which no server loads."""

import re
import shutil
from pathlib import Path

import pytest
from small_exports import installed, write

from sapiens_core.recipes.combined import HUMAN_TASKS
from sapiens_core.recipes.recipe import Task
from sapiens_export.parity.verify import unfit_ensembles
from sapiens_export.repository.wiring import misfits
from sapiens_export.repository.write import check_models
from sapiens_export.repository.written import EnsembleStep, WrittenModel

ENGINE = (
    'model_name: "depth_engine"\n    model_version: -1\n    input_map {\n      key: "pixels"\n      value: "'
)
RELEASED = Path(__file__).parents[2] / "model_repository"


@pytest.fixture
def repository(tmp_path):
    """All models of this release, without their engines."""
    return shutil.copytree(RELEASED, tmp_path / "models")


def change(repository, model, old, new):
    config = repository / model / "config.pbtxt"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))


def problems(repository):
    return {outcome.model: outcome.problem for outcome in unfit_ensembles(repository)}


def test_what_is_written_fits(repository):
    assert problems(repository) == {}


def test_a_step_of_another_release_is_named_with_every_ensemble_that_it_is_in(repository):
    change(repository, "normal_postprocess", '"finish_hw"', '"image_hw"')
    assert list(problems(repository)) == ["human", "normal"]
    for problem in problems(repository).values():
        assert "normal_postprocess does not take finish_hw" in problem
        assert "normal_postprocess is not given image_hw" in problem
        assert problem.endswith("; export its tasks again")


@pytest.mark.parametrize(
    ("model", "old", "new", "problem"),
    [
        ("dense_preprocess", 'name: "finish_hw"', 'name: "size"', "_preprocess does not return finish_hw"),
        ("depth", 'value: "finish_hw"', 'value: "size"', ""),
        ("depth", f"{ENGINE}pixels", f"{ENGINE}x", "no step before depth_engine returns x"),
        ("depth", 'name: "image_hw"', 'name: "size"', "no step returns size"),
        ("depth", 'model_name: "depth_engine"', 'model_name: "other"', "it needs other, not in"),
        ("depth", "platform", "form: 1 platform", "config.pbtxt must be Triton's model config"),
    ],
    ids=["output of a step", "renamed throughout", "input of a step", "output", "step", "damaged"],
)
def test_what_does_not_fit_is_named(model, old, new, problem, repository):
    change(repository, model, old, new)
    assert bool(problem) == ("depth" in problems(repository))
    assert problem in problems(repository).get("depth", "")


@pytest.fixture
def chain():
    """A function (steps as (model, inputs, outputs)) -> what does not fit in an ensemble from a to z."""

    def make(*steps):
        names = [
            EnsembleStep(model, {n: n for n in taken}, {n: n for n in given}) for model, taken, given in steps
        ]
        models = {
            step.model: WrittenModel(frozenset(step.inputs), frozenset(), frozenset(step.outputs), ())
            for step in names
        }
        return misfits(WrittenModel(frozenset("a"), frozenset(), frozenset("z"), tuple(names)), models)

    return make


def test_steps_may_be_listed_in_any_order(chain):
    assert chain(("last", "m", "z"), ("first", "a", "m")) == []


def test_a_tensor_from_nowhere_is_told_once_where_it_is_missed(chain):
    assert chain(("first", "ab", "m"), ("last", "m", "z")) == ["no step before first returns b"]


def test_a_circle_is_told(chain):
    assert chain(("one", "am", "n"), ("two", "n", "mz")) == [
        "no step before one returns m",
        "no step before two returns n",
    ]


@pytest.fixture
def older(tmp_path):
    """A repository of the dense tasks, in which the steps of two are of a release with other tensors."""
    repository = tmp_path / "models"
    for task in HUMAN_TASKS:
        write(repository, task)
    assert problems(repository) == {}
    for task in ("normal", "seg"):
        change(repository, f"{task}_postprocess", '"finish_hw"', '"image_hw"')
    return repository


def test_no_ensemble_is_made_of_models_of_two_releases(older):
    before = {path: path.read_bytes() for path in older.rglob("*") if path.is_file()}
    sentence = (
        r"human is made of depth, normal, seg, which must be of one release, but .*models has "
        r"normal_postprocess, seg_postprocess of another; export the three with `sapiens export TASK "
    )
    for refused in (check_models, lambda repository, new: write(repository, new.config.task)):
        with pytest.raises(ValueError, match=re.compile(sentence)):
            refused(older, installed(Task.DEPTH))
    assert {path: path.read_bytes() for path in older.rglob("*") if path.is_file()} == before


def test_a_step_that_is_missing_is_named_too(older):
    for task in ("normal", "seg"):
        change(older, f"{task}_postprocess", '"image_hw"', '"finish_hw"')
    shutil.rmtree(older / "seg_postprocess")
    with pytest.raises(ValueError, match=r"models has seg_postprocess of another"):
        check_models(older, installed(Task.DEPTH))


def test_no_engine_is_written_beside_models_whose_code_is_gone(tmp_path):
    repository = tmp_path / "models"
    write(repository, Task.NORMAL)
    write(repository, Task.SEG)
    gone = "from sapiens_core.triton_backend.preprocess import TritonPythonModel\n"
    for model in ("dense_preprocess", "normal_postprocess", "seg_engine"):
        (repository / model / "1" / "model.py").write_text(gone)
    before = sorted(repository.rglob("*"))
    sentence = (
        r"models must have models of this release only, but normal_postprocess, seg_engine need code of "
        r"another; export them again, and this one, into a new folder"
    )
    for refused in (check_models, lambda repository, new: write(repository, new.config.task)):
        with pytest.raises(ValueError, match=sentence):
            refused(repository, installed(Task.DEPTH))
    assert sorted(repository.rglob("*")) == before


def test_models_whose_code_is_gone_may_be_replaced(tmp_path):
    write(tmp_path, Task.DEPTH)
    code = tmp_path / "depth_postprocess" / "1" / "model.py"
    code.write_text("from sapiens_core.no_such import TritonPythonModel\n")
    write(tmp_path, Task.DEPTH)
    assert "no_such" not in code.read_text()


def test_engines_that_are_in_no_other_ensemble_are_written(older):
    write(older, Task.DEPTH, name="2b")
    shutil.rmtree(older / "seg")
    write(older, Task.DEPTH)
