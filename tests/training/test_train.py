"""Training goes on where it stopped, and says what stops it."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError

import numpy as np
import pytest
import torch

from training.dataset import Shards, plain_batch
from training.light import LightNetworks
from training.network import SERVED_TASKS, DemoNetworks
from training.sample import Sample, stacked
from training.train import Stage, Training, batches, input_hw, main, stage
from training.write_networks import write_network

STAGES = [Stage(64, 2), Stage(128, 3)]


@pytest.fixture
def shards(tmp_path):
    """Noise with a square of a person."""
    rng = np.random.default_rng(0)
    is_person = np.zeros((64, 48), bool)
    is_person[20:50, 10:40] = True
    samples = [
        Sample(
            image=rng.integers(0, 256, (64, 48, 3), np.uint8),
            class_map=np.where(is_person, rng.integers(1, 28, (64, 48)), 0).astype(np.uint8),
            normals=np.where(is_person[..., None], np.array([60, 60, 94]), 0).astype(np.int8),
            depth=np.where(is_person, rng.normal(0, 0.1, (64, 48)), 0).astype(np.float16),
            keypoints=rng.uniform((10, 20), (40, 50), (17, 2)).astype(np.float32),
        )
        for _ in range(5)
    ]
    for number, some in enumerate((samples[:3], samples[3:])):
        np.savez(tmp_path / f"1_{number:04}.npz", **stacked(some))
    return Shards(tmp_path)


@pytest.fixture
def trained(shards):
    """A function that makes a training and takes it to a step, from a saved one if there is one."""

    def training_at(step, state=None):
        torch.manual_seed(0)
        training = Training("cpu", 1e-3, LightNetworks())
        if state:
            training.load(state)
        for batch in batches(shards, 2, STAGES, seed=0, first_step=training.step):
            if training.step == step:
                break
            training.learn(batch, STAGES[-1].until)
        return training

    return training_at


def states(training):
    optimizers = [optimizer.state_dict()["state"] for optimizer in training.optimizers]
    return training.step, training.networks.state_dict(), training.average.state_dict(), optimizers


def test_a_training_that_was_interrupted_ends_like_one_that_was_not(trained, tmp_path):
    trained(2).save(tmp_path / "run.pt")
    torch.testing.assert_close(states(trained(3, tmp_path / "run.pt")), states(trained(3)), rtol=0, atol=0)


def test_a_training_may_begin_with_networks_that_were_written(tmp_path):
    kinds = (DemoNetworks, DemoNetworks, LightNetworks)
    before, after, light = (Training("cpu", 1e-3, kind()) for kind in kinds)
    for task in SERVED_TASKS:
        write_network(task, before.networks.task_weights(task), tmp_path)
    after.begin_with(tmp_path, backbone=None)
    light.begin_with(tmp_path, backbone=None)
    assert after.step == 0
    rounded = {name: value.half().float() for name, value in before.networks.state_dict().items()}
    for state in (after.networks.state_dict(), after.average.module.state_dict()):
        torch.testing.assert_close(dict(state), rounded, rtol=0, atol=0)
    backbone = after.networks.backbone.state_dict()
    torch.testing.assert_close(light.networks.backbone.state_dict(), backbone, rtol=0, atol=0)


def test_a_training_may_begin_with_the_averaged_backbone_of_a_light_one(trained, tmp_path):
    light, after = trained(3), Training("cpu", 1e-3, DemoNetworks())
    light.save(tmp_path / "light.pt")
    after.begin_with(None, tmp_path / "light.pt")
    wanted = light.average.module.backbone.state_dict()
    for networks in (after.networks, after.average.module):
        torch.testing.assert_close(networks.backbone.state_dict(), wanted, rtol=0, atol=0)


def test_light_heads_learn_what_they_see(shards):
    torch.manual_seed(0)
    light = Training("cpu", 3e-2, LightNetworks())
    batch = plain_batch(shards, range(4), (64, 48))
    seen = [light.learn(batch, 1000) for _ in range(20)]
    for task, loss in seen[-1].items():
        assert loss < 0.7 * seen[0][task], task


def test_every_batch_depends_on_its_step_alone(shards):
    whole = list(batches(shards, 2, STAGES, seed=0, first_step=0))
    (last,) = batches(shards, 2, STAGES, seed=0, first_step=2)
    assert [tuple(batch.images.shape[2:]) for batch in whole] == [(64, 48), (64, 48), (128, 96)]
    torch.testing.assert_close(vars(whole[2]), vars(last), rtol=0, atol=0)


def test_what_stops_a_batch_stops_the_training(shards, monkeypatch):
    def broken(index):
        raise ValueError(f"sample {index} is broken")

    monkeypatch.setattr(shards, "sample", broken)
    with pytest.raises(ValueError, match="is broken"):
        list(batches(shards, 2, STAGES, seed=0, first_step=0))


def test_heights_change_at_their_steps():
    assert stage("128:1000") == Stage(128, 1000)
    assert [input_hw(STAGES, step) for step in range(3)] == [(64, 48), (64, 48), (128, 96)]


@pytest.mark.parametrize("text", ["128", "128:", ":5", "100:5", "0:5", "-64:5", "64:5:6"])
def test_other_heights_are_refused(text):
    with pytest.raises(ArgumentTypeError, match=f"as in 128:1000, got '{text}'"):
        stage(text)


@pytest.fixture
def run(shards, tmp_path, monkeypatch, capsys):
    """A function that runs the command in this process and returns its reports."""

    def reports(state, *options):
        folders = ("--shards", tmp_path, "--held-out", tmp_path, "--state", tmp_path / state)
        command = ("train", *folders, "--light", "--device", "cpu", "--batch", 2, *options)
        monkeypatch.setattr("sys.argv", [str(word) for word in command])
        main()
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return reports


def test_losses_are_means_of_the_steps_since_the_last_report(run):
    options = ("--heights", "64:3", "--report-every")
    single, rare = run("single.pt", *options, 1), run("rare.pt", *options, 2)
    assert [report["step"] for report in rare] == [2, 3]
    assert rare[1]["seg loss"] == single[2]["seg loss"]
    assert rare[0]["seg loss"] == pytest.approx((single[0]["seg loss"] + single[1]["seg loss"]) / 2, abs=1e-3)


def test_steps_of_heights_must_rise(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("run.pt", "--heights", "64:3", "128:3")
    assert "--heights must have rising steps, got [3, 3]" in capsys.readouterr().err
