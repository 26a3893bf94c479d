"""What a store knows of its best model, as sections of the model's card."""

from __future__ import annotations

from collections import Counter

from ram_engine.runs import latest_model
from storage.markdown import plain, table
from storage.store import Store
from tasks.evaluation.rows import Row
from tasks.report.opening import known_against, lines
from tasks.settings.ingest import source_titles

MEASURED_AS = {"ram_fine_tuned": Row.FINE_TUNED, "ram": Row.CLEANING}
SUBSETS = {
    "all": "all tags",
    "object": "objects",
    "scene": "scenes",
    "attribute": "attributes",
    "action": "actions",
    "frequent": "frequent tags",
    "medium": "less frequent tags",
    "rare": "rare tags",
    "never_captioned": "nouns that no caption names",
}


def sections_of(store: Store) -> dict[str, str]:
    """Verdict (without a title), data, label system and figures of the store's best model, each where the store has
    it."""
    sections = {}
    model, pairs, labels = latest_model(store), store.snapshot("pairs"), store.snapshot("label_system")
    if model is not None and model.artifact != "baseline" and (told := lines(store, steps=False)):
        sections[""] = "\n\n".join(told)
    if pairs is not None:
        splits = Counter(split for part in store.tables(pairs, ["split"]) for split in part["split"].to_pylist())
        counted = ", ".join(f"{count:,} {split.replace('_', ' ')}" for split, count in splits.most_common())
        sources = plain(" and ".join(source_titles(pairs.settings["source"])))
        sections["Data"] = (
            f"Image-caption pairs of {sources}: {counted}. Nothing was labelled by hand to learn from: tags were "
            "parsed from captions, added by a first model, and cleaned."
        )
    if labels is not None:
        tags = store.table(labels).to_pylist()
        named = sum(tag["count"] for tag in tags if tag["active"])
        sections["Label system"] = (
            f"{sum(tag['active'] for tag in tags):,} active tags with {sum(len(tag['synonyms']) for tag in tags):,} "
            f"synonyms, version {labels.key}; captions name them {named:,} times."
        )
    if model is not None and (metrics := store.snapshot("metrics")) is not None:
        found = {
            row["subset"]: row["value"]
            for row in store.table(metrics).to_pylist()
            if row["model"] == MEASURED_AS.get(model.artifact) and row["metric"] == "mAP" and row["tag"] is None
        }
        rows = [(title, f"{found[subset]:.3f}") for subset, title in SUBSETS.items() if subset in found]
        if rows:
            sections["Figures"] = f"On the test pictures, against {known_against(store)}.\n\n{table(('', 'mAP'), rows)}"
    return sections
