"""What networks share beyond their modules; weights that do not fit are tested with each network."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from retouch_common.pretrained import Pretrained
from torch import nn


@dataclass(frozen=True)
class Config:
    width: int = 4


class Network(Pretrained):
    presets, bundled = {"recommended": SimpleNamespace(model=Config())}, Path("nowhere")
    tags = ("face-retouching",)

    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.width, 1)


def test_a_folder_holds_weights_and_configuration_and_is_replaced(tmp_path):
    for width in (3, 5):
        network = Network(Config(width))
        network.save_pretrained(tmp_path / "new" / "weights")
        assert sorted(file.name for file in (tmp_path / "new" / "weights").iterdir()) == [
            "config.json",
            "model.safetensors",
        ]
        assert json.loads((tmp_path / "new" / "weights" / "config.json").read_text()) == {"width": width}
        loaded = Network.from_pretrained(tmp_path / "new" / "weights")
        assert loaded.config == Config(width) and torch.equal(loaded.layer.weight, network.layer.weight)


def test_loading_draws_no_random_numbers(tmp_path):
    Network().save_pretrained(tmp_path)
    before = torch.get_rng_state()
    Network.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_nan_is_not_saved(tmp_path):
    network = Network()
    network.layer.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="layer"):
        network.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_pushed_to_the_hub_loads_and_has_a_card(monkeypatch, tmp_path):
    class Api:
        def __init__(self, token):
            assert token == "secret"

        def create_repo(self, repo_id, *, private, exist_ok):
            assert private and exist_ok
            return SimpleNamespace(repo_id=f"owner/{repo_id}")

        def upload_folder(self, *, repo_id, folder_path):
            for file in Path(folder_path).iterdir():
                (tmp_path / file.name).write_bytes(file.read_bytes())
            return f"https://hub/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    network = Network()
    assert network.push_to_hub("name", private=True, token="secret") == "https://hub/owner/name"
    card = huggingface_hub.ModelCard.load(tmp_path / "README.md")
    assert card.data.tags == ["face-retouching"] and card.data.license == "apache-2.0"
    assert torch.equal(Network.from_pretrained(tmp_path).layer.weight, network.layer.weight)
