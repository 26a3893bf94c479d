"""The documentation draws and lists what the code says. ``python -m tests.test_documentation`` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path

from ram_engine.configuration import configure
from tasks.evaluation.rows import OF_COMMAND, Row
from tasks.machine.dag import Stage, stages
from tasks.settings.pipeline import PipelineSettings

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- {name}: written by python -m tests.test_documentation -->", "<!-- end of {name} -->"


def dag() -> str:
    """The stages of one round as a Mermaid flow chart: rounded stages, artifacts between them."""
    lines = ["```mermaid", "flowchart TD", "  source[(source)] --> ingest"]
    makers = {artifact: stage.name for stage in stages(1) for artifact in stage.outputs}
    for stage in stages(1):
        lines.append(f"  {stage.name}([{stage.name}])")
        readers = [artifact for alias, artifact in stage.inputs.items() if alias not in stage.carried]
        lines += [f"  {makers[artifact]} -- {artifact} --> {stage.name}" for artifact in readers if artifact in makers]
    return "\n".join([*lines, "```"])


def table() -> str:
    """The stages as a table."""
    lines = ["| stage | kind | what it does | writes |", "|---|---|---|---|"]
    for stage in stages(1):
        writes = ", ".join(f"`{artifact}`" for artifact in stage.outputs)
        lines.append(f"| `{stage.name}` | {_kind(stage)} | {stage.about} | {writes} |")
    return "\n".join(lines)


def _kind(stage: Stage) -> str:
    return stage.kind + (", frozen" if stage.frozen else "")


FLICKR8K_ROWS = (*OF_COMMAND, Row.PARSED.fine_tuned, Row.CLEANING.fine_tuned, Row.CEILING.fine_tuned)


def flickr8k() -> str:
    """The ablation's rows on Flickr8k as a table."""
    rows = json.loads((ROOT / "benchmarks/results/ablation_flickr8k.json").read_text(encoding="utf-8"))["rows"]
    lines = [
        "| taught | mAP | spread | more than parsed | gap closed | CF1 / OF1 | tags an image | precision / recall |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind in FLICKR8K_ROWS:
        row, labels = rows[kind], rows[kind]["labels"]
        cells = [
            kind.taught,
            f"{row['mAP']:.4f}",
            f"{row['spread']:.4f}",
            _interval(row["more"], "+.4f") if kind != Row.PARSED else "",
            _interval(row["gap_closed"], ".0%") if kind in (Row.GENERATION, Row.CLEANING) else "",
            f"{row['operating']['CF1']:.3f} / {row['operating']['OF1']:.3f}",
            f"{labels['tags_an_image']:.1f}" if labels else "",
            f"{labels['precision']:.2f} / {labels['recall']:.2f}" if labels else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def swapped() -> str:
    """The rows with swapped captions beside those without."""
    found = json.loads((ROOT / "benchmarks/results/ablation_flickr8k_swapped.json").read_text(encoding="utf-8"))
    lines = ["| taught | mAP as it is | spread | mAP swapped | spread | lost | precision / recall of the labels |"]
    lines.append("|---|---|---|---|---|---|---|")
    for kind in (Row.PARSED, Row.GENERATION, Row.CLEANING):
        row, other = (found["rows"][way][kind] for way in ("as-is", "swapped"))
        both = " | ".join(f"{each['mAP']:.4f} | {each['spread']:.4f}" for each in (row, other))
        labels = f"{other['labels']['precision']:.2f} / {other['labels']['recall']:.2f}"
        lines.append(f"| {kind.taught} | {both} | {_interval(found[f'lost_{kind}'], '.4f')} | {labels} |")
    return "\n".join(lines)


def _interval(values: list[float], form: str) -> str:
    return f"{values[0]:{form}} ({values[1]:{form}} to {values[2]:{form}})"


WRITTEN = {
    ("docs/architecture.md", "dag"): dag,
    ("README.md", "stages"): table,
    ("docs/results.md", "flickr8k"): flickr8k,
    ("docs/results.md", "swapped"): swapped,
}


def rewritten(file: str, name: str, text: str) -> str:
    """The file's contents with the part ``name`` replaced."""
    content = (ROOT / file).read_text(encoding="utf-8")
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, _, rest = content.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def test_pictures_and_tables_are_those_of_the_code() -> None:
    stale = [
        file for (file, name), make in WRITTEN.items() if rewritten(file, name, make()) != (ROOT / file).read_text()
    ]
    assert not stale, "run `python -m tests.test_documentation`"


def test_prefect_yaml_names_every_flow_once() -> None:
    import yaml

    from flows.stages import FLOWS

    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    names = [one["entrypoint"].partition(":")[2] for one in content["deployments"]]
    flows = (flow.fn.__name__ for flow in FLOWS.values())
    assert sorted(names) == sorted(["pipeline", "refresh", "ablate", "clean_tags", *flows])


def test_prefect_yaml_has_the_settings_of_the_sample() -> None:
    import yaml

    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    parameters = {one["entrypoint"]: one["parameters"] for one in content["deployments"]}
    sample, _ = configure("sample")
    assert PipelineSettings(**parameters["flows/pipeline.py:pipeline"]["settings"]) == sample
    for stage in stages():
        entrypoint = f"flows/stages.py:{stage.name.replace('-', '_')}"
        chosen = stage.settings_of(sample)
        usual = getattr(PipelineSettings(), stage.settings)
        given = parameters[entrypoint].get("settings")
        assert (usual if given is None else type(usual)(**given)) == chosen, stage.name


if __name__ == "__main__":
    for (file, name), make in WRITTEN.items():
        (ROOT / file).write_text(rewritten(file, name, make()), encoding="utf-8")
