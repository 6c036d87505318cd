from dataclasses import replace
from pathlib import Path

import pytest

from sapiens_core.contract.folders import model_folders
from sapiens_export.engine_store import EngineStore, Machine, libraries
from sapiens_export.exporter import export_engine
from sapiens_export.parity.verify import outdated_models, unfit_ensembles
from sapiens_export.weights.sources import source_from_seed

MACHINE = Machine("python", ("NVIDIA L4 8.9",), "580.65.06", ("torch 2.13.0",), "0.1.0")


def written(repository: Path) -> None:
    repository.mkdir()
    (repository / "file").touch()


@pytest.mark.parametrize(
    "other",
    [
        replace(MACHINE, runtime="tensorrt"),
        replace(MACHINE, gpus=()),
        replace(MACHINE, driver="590.1"),
        replace(MACHINE, libraries=("torch 2.14.0",)),
        replace(MACHINE, sapiens="0.2.0"),
    ],
    ids=str,
)
def test_another_machine_gets_another_engine(other, tmp_path):
    engines = [
        EngineStore(tmp_path, machine).engine("depth", "1b", "ab", written) for machine in (MACHINE, other)
    ]
    assert len({*engines}) == 2


def test_other_weights_get_another_engine_and_the_same_get_none(tmp_path):
    store, made = EngineStore(tmp_path, MACHINE), []

    def make(repository: Path) -> None:
        made.append(repository)
        written(repository)

    engines = [store.engine("depth", "1b", sha256, make) for sha256 in ("ab", "cd", "ab")]
    assert (len({*engines}), len(made)) == (2, 2)


def test_an_export_that_fails_leaves_nothing(tmp_path):
    def fail(repository: Path) -> None:
        written(repository)
        raise RuntimeError("no")

    store = EngineStore(tmp_path, MACHINE)
    with pytest.raises(RuntimeError, match="no"):
        store.engine("depth", "1b", "ab", fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_export_left_is_removed_and_what_one_works_on_is_not(tmp_path):
    (tmp_path / "engines" / ".new-killed" / "models").mkdir(parents=True)
    (tmp_path / "engines" / ".new-killed" / ".lock").touch()
    store = EngineStore(tmp_path, MACHINE)

    def slow(repository: Path) -> None:
        store.engine("normal", "1b", "cd", written)
        written(repository)

    assert (store.engine("depth", "1b", "ab", slow) / "file").is_file()
    assert {path.name[:6] for path in (tmp_path / "engines").iterdir()} == {"depth-", "normal"}


def test_pruned_of_all_but_what_is_used_here_and_held_elsewhere(tmp_path):
    store = EngineStore(tmp_path, MACHINE)
    used, old, elsewhere = (store.engine("depth", "1b", sha256, written) for sha256 in ("ab", "cd", "ef"))
    with store.held(elsewhere):
        assert store.pruned(used) == [old]
    assert store.pruned(used) == [elsewhere]
    assert [*(tmp_path / "engines").iterdir()] == [used]


def test_two_that_export_the_same_share_one(tmp_path):
    store = EngineStore(tmp_path, MACHINE)

    def slow(repository: Path) -> None:
        store.engine("depth", "1b", "ab", written)
        written(repository)

    assert (store.engine("depth", "1b", "ab", slow) / "file").is_file()


def test_engines_are_served_together_from_the_same_files(golden_networks, tmp_path):
    store = EngineStore(tmp_path, MACHINE)

    def engine(name: str) -> Path:
        source = source_from_seed(golden_networks[name], 0)
        return store.engine(name, "custom", name, lambda folder: export_engine(source, folder))

    engines = [engine(name) for name in ("depth", "normal", "seg")]
    repository = store.repository(engines)
    assert "human" in model_folders(repository).models
    assert outdated_models(repository) == {}
    assert unfit_ensembles(repository) == []
    for folder, name in zip(engines, ("depth", "normal", "seg"), strict=True):
        served, own = repository / f"{name}_engine", folder / f"{name}_engine"
        assert (served / "1" / "model.pt").samefile(own / "1" / "model.pt")
        for file in ("manifest.json", "config.pbtxt"):
            assert (served / file).read_text() == (own / file).read_text()
    assert store.repository(engines) == repository


def test_the_libraries_here_are_named():
    assert [name for name in libraries() if name.startswith("torch ")]
