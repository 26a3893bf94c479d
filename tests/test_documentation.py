"""The documentation draws and lists what the code says. ``python -m tests.test_documentation`` writes it anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from ram_engine.configuration import configure
from tasks.evaluation.rows import OF_COMMAND, Row
from tasks.exports.room import EXPORTS
from tasks.machine.dag import stages
from tasks.machine.declaration import Stage
from tasks.settings.pipeline import PipelineSettings
from tasks.sources.fitness import REASONS
from tasks.sources.room import SOURCES

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


def flows() -> str:
    """The deployments of prefect.yaml as a table: those of stages together."""
    from flows.deployments import PLAIN, TRAINING, deployments

    listed = {deployment.flow.name: deployment for deployment in deployments(PipelineSettings())}
    lines = ["| flow | what it does | pool |", "|---|---|---|"]
    for name, deployment in listed.items():
        if name not in {stage.name for stage in stages(1)}:
            lines.append(f"| `{name}` | {' '.join(deployment.description.split())} | `{deployment.pool}` |")
    of_stages = [listed[stage.name] for stage in stages(1)]
    for pool, what in ((PLAIN, "one stage that runs no model"), (TRAINING, "one stage that does")):
        names = ", ".join(f"`{deployment.flow.name}`" for deployment in of_stages if deployment.pool == pool)
        lines.append(f"| {names} | {what} | `{pool}` |")
    return "\n".join(lines)


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


def prefect_yaml() -> str:
    """The deployments of the sample, whose flows lie in the checkout."""
    from flows.deployments import deployment_file

    return deployment_file("default", "runs/sample", *configure("sample"), in_checkout=True)


@dataclass(frozen=True)
class Figures:
    """Figures that the documentation prints, an entry of ``benchmarks/results/measured.yaml``.

    ``places`` maps files to headings, ``stages`` are those that the figures rest on, and ``versions`` those that all
    stages had at ``commit``.
    """

    what: str
    places: Mapping[str, str]
    command: str | None
    commit: str
    stages: list[str]
    versions: Mapping[str, int]

    def changed(self) -> list[str]:
        """What became of the stages since."""
        versions = {stage.name: stage.version for stage in stages(1)}
        return [
            f"`{name}` {self.versions[name]} to {versions[name]}" if name in self.versions else f"`{name}` is new"
            for name in self.stages
            if self.versions.get(name) != versions[name]
        ]


def measured() -> Iterator[Figures]:
    """All figures, those that were measured first first."""
    names = [stage.name for stage in stages(1)]
    for group in yaml.safe_load((ROOT / "benchmarks/results/measured.yaml").read_text(encoding="utf-8")):
        for entry in group["figures"]:
            if "until" in entry:
                entry["stages"] = names[: names.index(entry.pop("until")) + 1]
            yield Figures(**entry, versions=group["versions"])


def provenance() -> str:
    """Where the figures come from, and what changed since, as a table."""
    lines = ["| figures | measured by | at commit | stages that changed since |", "|---|---|---|---|"]
    for figures in measured():
        places = ", ".join(
            f"[{Path(file).stem}]({'' if file.startswith('docs/') else '../'}{Path(file).name}#{_anchor(heading)})"
            for file, heading in figures.places.items()
        )
        command = f"`{figures.command}`" if figures.command else "a script"
        changed = ", ".join(figures.changed()) or "none"
        lines.append(f"| {figures.what} ({places}) | {command} | {figures.commit} | {changed} |")
    return "\n".join(lines)


def _anchor(heading: str) -> str:
    """What GitHub calls a heading in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def sources() -> str:
    """The room of sources as a table."""
    lines = ["| `--source` | what it is | settings: `ingest.source.` |", "|---|---|---|"]
    for member in SOURCES.own:
        settings = [name for name in member.model_fields if name not in ("kind", "path")]
        called = f"{member.kind_of()}:PATH" if "path" in member.model_fields else member.kind_of()
        lines.append(f"| `{called}` | {member.about()} | {', '.join(f'`{name}`' for name in settings)} |")
    return "\n".join(lines)


def reasons() -> str:
    """Why rows are set apart, as a table."""
    lines = ["| reason | what is wrong |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{reason}` | {told} |" for reason, told in REASONS.items())])


def exports() -> str:
    """The room of exports as a table."""
    lines = ["| `--format` | what it writes |", "|---|---|"]
    lines += [f"| `{member.kind_of()}` | {member.about()} |" for member in EXPORTS.own]
    return "\n".join(lines)


WRITTEN = {
    ("docs/data.md", "sources"): sources,
    ("docs/data.md", "reasons"): reasons,
    ("docs/data.md", "exports"): exports,
    ("docs/architecture.md", "dag"): dag,
    ("docs/architecture.md", "stages"): table,
    ("docs/operate.md", "flows"): flows,
    ("docs/results.md", "flickr8k"): flickr8k,
    ("docs/results.md", "swapped"): swapped,
    ("docs/results.md", "provenance"): provenance,
}


def rewritten(file: str, name: str, text: str) -> str:
    """The file's contents with the part ``name`` replaced."""
    content = (ROOT / file).read_text(encoding="utf-8")
    begin, end = BEGIN.format(name=name), END.format(name=name)
    before, _, rest = content.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


PREFECT_YAML = ROOT / "prefect.yaml"
HEAD = """\
# Deployments for a Prefect server, with the sample's settings; docs/operate.md has the commands around this file.
# `python -m tests.test_documentation` writes it; `ram-engine deploy --store STORE` writes one for a store of yours.
"""


def test_prefect_yaml_is_that_of_the_stages() -> None:
    assert PREFECT_YAML.read_text(encoding="utf-8") == HEAD + prefect_yaml(), "run `python -m tests.test_documentation`"


def test_pictures_and_tables_are_those_of_the_code() -> None:
    stale = [
        file for (file, name), make in WRITTEN.items() if rewritten(file, name, make()) != (ROOT / file).read_text()
    ]
    assert not stale, "run `python -m tests.test_documentation`"


def test_figures_stand_where_they_are_said_to_and_can_be_measured_again() -> None:
    versions = {stage.name: stage.version for stage in stages(1)}
    for figures in measured():
        for file, heading in figures.places.items():
            headings = re.findall(r"^#+ (.*)$", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in headings, f"{file} has no heading '{heading}': {figures.what}"
        benchmarks = re.findall(r"benchmarks/\S+", figures.command or "")
        assert all((ROOT / name).is_file() for name in benchmarks), f"{figures.command}: {figures.what}"
        assert re.fullmatch("[0-9a-f]{7}", figures.commit), f"no commit: {figures.what}"
        assert set(figures.stages) | figures.versions.keys() <= versions.keys(), f"no such stage: {figures.what}"
        later = [name for name, version in figures.versions.items() if version > versions[name]]
        assert not later, f"measured with versions that are not yet there: {figures.what}: {later}"


def test_every_benchmark_that_the_documentation_names_has_its_commit() -> None:
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = {name for file in files for name in re.findall(r"benchmarks/\w+\.py", file.read_text(encoding="utf-8"))}
    told = {name for figures in measured() for name in re.findall(r"benchmarks/\w+\.py", figures.command or "")}
    assert named <= told, f"add them to benchmarks/results/measured.yaml: {named - told}"


def test_prefect_yaml_has_the_settings_of_the_sample() -> None:
    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    parameters = {one["entrypoint"]: one["parameters"] for one in content["deployments"]}
    sample, _ = configure("sample")
    assert PipelineSettings(**parameters["flows/pipeline.py:pipeline"]["settings"]) == sample
    for stage in stages():
        given = parameters[f"flows/stages.py:{stage.declared.identifier}"]["settings"]
        assert type(stage.declared.usual)(**given) == stage.settings_of(sample), stage.name


if __name__ == "__main__":
    for (file, name), make in WRITTEN.items():
        (ROOT / file).write_text(rewritten(file, name, make()), encoding="utf-8")
    PREFECT_YAML.write_text(HEAD + prefect_yaml(), encoding="utf-8")
