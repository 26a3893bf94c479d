"""Rules between settings: the settings themselves and their forms refuse the same values."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tasks.settings.base import Settings
from tasks.settings.executor import ExecutorSettings
from tasks.settings.training import TrainSettings

LINEAR = {"solver": "ridge", "architecture": "tag2text", "evidence": "mean", "decoder_layers": 0}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (LINEAR, ""),
        ({**LINEAR, "evidence": "tokens"}, "linear classifier"),
        ({**LINEAR, "decoder_layers": 1}, "linear classifier"),
        ({**LINEAR, "architecture": "ram"}, "linear classifier"),
        ({name: value for name, value in LINEAR.items() if name != "architecture"}, "linear classifier"),
        ({**LINEAR, "source_weights": ["csv:a.csv=2"]}, "leave source_weights empty"),
        ({"distillation": "clip"}, "set text_encoder to open_clip"),
        ({"distillation": "clip", "text_encoder": "open_clip:ViT-B-16"}, ""),
    ],
)
def test_forms_refuse_what_the_settings_refuse(values: dict[str, object], why: str) -> None:
    refused_alike(TrainSettings, values, why)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"training_nodes": 1}, ""),
        ({"training_nodes": 2}, "where they meet"),
        ({"training_nodes": 2, "rendezvous": "10.0.0.5"}, "where they meet"),
        ({"training_nodes": 2, "rendezvous": "10.0.0.5:29500"}, ""),
    ],
)
def test_forms_refuse_machines_that_cannot_meet(values: dict[str, object], why: str) -> None:
    refused_alike(ExecutorSettings, values, why)


def refused_alike(model: type[Settings], values: dict[str, object], why: str) -> None:
    """The settings refuse the values with that reason, or not where it is empty; and so does their form."""
    form = Draft202012Validator(model.model_json_schema())
    assert form.is_valid(values) is not bool(why)
    if why:
        with pytest.raises(ValidationError, match=why):
            model.model_validate(values)
    else:
        model.model_validate(values)
