"""A store's own settings, as its deployments begin with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flows.deployments import deployment_file
from ram_engine.store_settings import settings_of_store
from storage.store import Snapshot, Store
from tasks.machine.dag import stage_named
from tasks.machine.planning import PlanError
from tasks.settings.executor import ExecutorSettings
from tasks.settings.pipeline import PipelineSettings


def test_a_store_of_two_rounds_is_deployed_with_the_settings_of_its_rounds(tmp_path: Path) -> None:
    store = Store(tmp_path / "two rounds")
    settings = PipelineSettings.model_validate({"rounds": 2, "retrain": {"folds": 3, "epochs": 4}})
    for number, name in ((1, "retrain"), (2, "retrain-2")):
        stage = stage_named(name, 2)
        recorded = stage.settings_of(settings).model_dump(mode="json")
        store.publish(Snapshot(stage.model, f"key{number}", name, "", model="digest", settings=recorded))
    found, executor = settings_of_store(store.url, print)
    assert (found.rounds, found.retrain.folds, found.retrain.epochs) == (2, 3, 4)
    assert stage_named("retrain-2", 2).settings_of(found).folds == 0
    listed = yaml.safe_load(deployment_file("two rounds", store.url, found, executor))["deployments"]
    begins = {entry["entrypoint"]: entry["parameters"] for entry in listed}
    assert PipelineSettings.model_validate(begins["flows.pipeline.pipeline"]["settings"]) == found
    assert begins["flows.stages.retrain"] == {"store": store.url, "settings": {"epochs": 4}, "round_number": 2}
    assert executor == ExecutorSettings()


def test_a_store_of_a_package_that_has_gone_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.publish(Snapshot("regions", "key", "ground", "", settings={"proposer": {"kind": "middle", "size": 0.4}}))
    with pytest.raises(PlanError, match=r"ground made regions@key with are not known here \(proposer: .*'middle'"):
        settings_of_store(store.url, print)
