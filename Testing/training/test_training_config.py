from __future__ import annotations

from pathlib import Path

import pytest

from sofa_engine.errors import InputError
from sofa_engine.model.config import compact, litemedsam, paper
from sofa_training.config import OptimiserConfig, dump_config, load_config, shipped_configs
from sofa_training.optimiser import learning_rate


def test_the_papers_defaults_are_section_3_4():
    config = load_config("paper")
    assert (config.run.epochs, config.run.batch, config.optimiser.name, config.optimiser.rate) == (200, 2, "adam", 3e-5)
    assert (config.loss.seg, config.loss.iou, config.loss.sub_regions) == (1.0, 1.0, "one")
    assert (config.augmentation.rotation, config.augmentation.scale) == (15.0, (0.9, 1.1))
    assert (config.data.slices_per_case, config.data.background) == (0, 0.0)


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("paper", paper()),
        ("default", litemedsam()),
        ("compact", compact()),
        ("compact-2", compact()),
        ("compact-3", compact()),
    ],
)
def test_the_arrangements_of_the_configurations_are_the_engines(name: str, model):
    assert load_config(name).model == model
    assert name in shipped_configs()


@pytest.mark.parametrize("name", shipped_configs())
def test_a_printed_configuration_reads_back_as_the_same(name: str, tmp_path: Path):
    (tmp_path / "c.toml").write_text(dump_config(load_config(name)), encoding="utf-8")
    assert load_config(tmp_path / "c.toml") == load_config(name)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"run.epoch": 5}, "run.epoch is not a known key"),
        ({"runs.epochs": 5}, "runs is not a known key"),
        ({"model.encoder.stemstride": 1}, "model.encoder.stemstride is not a known key"),
        ({"run.epochs": "many"}, "run.epochs is wrong"),
        ({"run.batch": 0}, "run.batch is wrong"),
        ({"data.crops": [[102, 102]]}, "multiples of the model's stride"),
        ({"prompts.own": 0.8, "prompts.cross_section": 0.8}, "cannot exceed 1"),
        ({"run.cached_variants": 2}, "train = 'decoder'"),
        ({"modalities": ["t1", "t1"]}, "each once"),
        ({"model.resize": "litemedsam"}, "1 mm"),
        ({"loss.union": 1.0, "loss.sub_regions": "one"}, "union needs the masks of all sub-regions"),
    ],
)
def test_a_typo_or_a_wrong_value_is_named_in_one_sentence(overrides: dict, words: str):
    with pytest.raises(InputError) as error:
        load_config("default", {**overrides})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_missing_or_broken_file_is_said(tmp_path: Path):
    with pytest.raises(InputError, match="one of compact, compact-2, compact-3, default, paper"):
        load_config("defualt")
    (tmp_path / "c.toml").write_text("[run\nepochs = 1", encoding="utf-8")
    with pytest.raises(InputError, match="not valid TOML"):
        load_config(tmp_path / "c.toml")


def test_the_rate_warms_up_and_falls_as_a_cosine_to_its_end():
    config = OptimiserConfig(rate=1.0, warmup=4, final=0.1)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and rates[4] == max(rates)
    assert rates[50] == pytest.approx(0.1 + 0.9 * 0.5) and rates[100] == pytest.approx(0.1)
    assert learning_rate(0, 100, OptimiserConfig(rate=3e-5)) == 3e-5
