"""Settings by `--set` and options: whatever is written there, a person is told in a sentence what is wrong."""

from __future__ import annotations

import pytest

from ram_engine.configuration import ConfigurationError, as_sets, configure


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["judge.doubt=[1"], "--set judge.doubt=[1: its value is no YAML"),
        (["judge.doubt=@a"], "its value is no YAML"),
        (["ingest=5", "ingest.source=sample"], "setting ingest.source: what stands before its last dot is 5"),
        (["ingest.source=5", "ingest.source.train=3"], "what stands before its last dot is 5"),
        (["executor=ray", "executor.workers=2"], "what stands before its last dot is 'ray'"),
        (["executor=5"], "setting executor: Input should be"),
    ],
)
def test_a_value_that_does_not_fit_is_told_in_a_sentence(sets: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        configure({}, sets=sets)
    assert said in str(raised.value)


def test_options_take_any_text() -> None:
    with pytest.raises(ConfigurationError, match=r"names the file é😀: #x/config\.json, which does not exist"):
        configure({}, sets=as_sets("pretrained:é😀: #x", ""))
