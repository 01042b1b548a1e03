"""Device files: a source for every number, one clear line for every mistake."""

from __future__ import annotations

import pytest

from pimsim import configs
from pimsim.errors import ConfigError
from pimsim.spec.base import missing_sources
from pimsim.spec.device import load_device


@pytest.mark.parametrize("name", configs.names("devices"))
def test_every_number_has_a_source(name: str) -> None:
    assert list(missing_sources(load_device(name))) == []


def test_a_missing_source_is_found() -> None:
    device = load_device("hbm_pim")
    stripped = device.model_copy(update={"dram": device.dram.model_copy(update={"source": {}})})
    assert "dram.channels" in set(missing_sources(stripped))


@pytest.mark.parametrize(
    ("name", "override", "words"),
    [
        ("hbm_pm", {}, ["unknown device 'hbm_pm'", "'hbm_pim'"]),
        ("hbm_pim", {"dram.chanels": 4}, ["dram.chanels", "did you mean 'channels'"]),
        ("hbm_pim", {"unit.simd_lane": 4}, ["unit.simd_lane", "did you mean 'simd_lanes'"]),
        ("hbm_pim", {"unit.kind": "near_bonk"}, ["near_bonk", "did you mean 'near_bank'"]),
        ("hbm_pim", {"dram.timing.nRCDRD": -3}, ["dram.timing.nRCDRD", "-3"]),
        ("hbm_pim", {"dram.channels": 0}, ["dram.channels", "greater than 0"]),
        ("hbm_pim", {"mapping.tables": "rows"}, ["mapping.tables", "'rows'"]),
        ("ddr4_3200", {"mapping.matmul": "pim"}, ["mapping", "unit"]),
        ("no/such/file.yaml", {}, ["no such file"]),
        ("hbm_pim", {"unit.kind": ["near_bank"]}, ["unknown unit kind", "['near_bank']"]),
        ("hbm_pim", {"dram.source": 5, "dram.channels": 4}, ["dram.source: 5"]),
        ("hbm_pim", {"host": "xeon"}, ["unknown host 'xeon'", "'xeon_8core'"]),
    ],
)
def test_mistakes_get_one_line(name: str, override: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_device(name, override)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_yaml_mistakes_name_the_line(tmp_path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("name: x\nname: y\n")
    with pytest.raises(ConfigError, match="line 2: key 'name' stands twice"):
        load_device(path)
    path.write_text("name: [x\n")
    with pytest.raises(ConfigError, match="line 2: not valid YAML"):
        load_device(path)
    path.write_text("name: x\n? [a, b]\n: 1\n")
    with pytest.raises(ConfigError, match=r"line 2: key .* plain word"):
        load_device(path)
    path.write_text("name: 2026-13-45\n")
    with pytest.raises(ConfigError, match="cannot be read: month"):
        load_device(path)


def test_a_misspelt_key_is_named_before_the_key_it_leaves_missing(tmp_path) -> None:
    path = tmp_path / "device.yaml"
    path.write_text("nmae: x\n")
    with pytest.raises(ConfigError, match="nmae: unknown key; did you mean 'name'"):
        load_device(path)


def test_a_host_can_be_overridden_by_name() -> None:
    assert load_device("hbm_pim", {"host": "xeon_8core"}).host == load_device("hbm_pim").host


def test_digest_follows_values_and_not_sources() -> None:
    device = load_device("hbm_pim")
    unsourced = device.model_copy(update={"dram": device.dram.model_copy(update={"source": {}})})
    assert unsourced.digest() == device.digest() != load_device("hbm_pim", {"dram.channels": 32}).digest()
    assert load_device("hbm_pim", {"dram.channels": 64}).digest() == device.digest()
