"""What the figures say, in plain sentences."""

from __future__ import annotations

from typing import Any

from tasks.evaluation.rows import FINAL, Row
from tasks.evaluation.verdict import BETTER


def findings(report: dict[str, Any]) -> list[str]:
    """The sentences that follow the verdict; those whose figures are not there yet are left out."""
    return [*_flow(report), *_cleaning(report), *_models(report), *_rejected(report)]


def _flow(report: dict[str, Any]) -> list[str]:
    if not report["flows"] or not report["flows"][-1]["images"]:
        return []
    first, last = report["flows"][0], report["flows"][-1]
    images = max(last["images"], 1)
    parsed = _count(first, origin="parsed")
    said = [f"The captions of {images:,} training pictures name {parsed / images:.1f} tags a picture."]
    added = _count(last) - _count(last, origin="parsed")
    if added:
        if last["true_tags"]:
            right = (_right(last) - _right(last, origin="parsed")) / added
            said.append(f"Of the {added:,} tags that generation added {right:.0%} are right by the known truth.")
        before, after = last["steps"][0], last["steps"][2]
        if before["recall"] is not None:
            said.append(
                f"It raised the share of the true tags that are found from {before['recall']:.0%} "
                f"to {after['recall']:.0%}."
            )
    return said


def _cleaning(report: dict[str, Any]) -> list[str]:
    if not report["flows"] or not report["flows"][-1]["judged"]:
        return []
    flow = report["flows"][-1]
    removed, kept = _count(flow, kept=False), _count(flow, kept=True)
    said = f"Cleaning removed {removed:,} tags ({removed / max(removed + kept, 1):.1%})"
    if not flow["true_tags"] or not removed or not kept:
        return [f"{said}."]
    right_removed, right_kept = _right(flow, kept=False), _right(flow, kept=True)
    lost = right_removed / max(right_removed + right_kept, 1)
    return [
        f"{said}: {1 - right_removed / removed:.0%} of them are wrong, against {1 - right_kept / kept:.0%} of those "
        f"that it kept; {lost:.1%} of the right tags were lost."
    ]


def _models(report: dict[str, Any]) -> list[str]:
    figures = {row["model"]: row["figures"] for row in report["models"]}
    score = {model: subsets["all"]["mAP"] for model, subsets in figures.items() if "mAP" in subsets.get("all", {})}
    best = next((row for row in FINAL if row in score), "")
    if not best:
        return []
    better = (report["opening"] or {}).get("word") == BETTER
    sentences = _gap_closed(score, best) + _fine_tuned_alike(score) if better else []
    never = figures[best].get("never_captioned", {})
    chance = figures.get(Row.CHANCE, {}).get("never_captioned", {}).get("mAP")
    if "mAP" in never:
        said = f"Things that no caption ever names are found at {never['mAP']:.3f} mAP"
        if chance:
            said += f", {never['mAP'] / chance:.1f} times chance"
        teacher = figures.get(Row.ZERO_SHOT, {}).get("never_captioned", {}).get("mAP")
        sentences.append(said + (f"; the zero-shot teacher reaches {teacher:.3f}." if teacher is not None else "."))
    return sentences


def _gap_closed(score: dict[str, float], best: str) -> list[str]:
    """How much of what the known truth would be worth the engine makes good."""
    if score.get(Row.TRUTH, 0) <= score[Row.PARSED]:
        return []
    closed = (score[best] - score[Row.PARSED]) / (score[Row.TRUTH] - score[Row.PARSED])
    made = "fine-tuned" if best == Row.FINE_TUNED else "retrained"
    return [
        f"A model that is taught the known truth reaches {score[Row.TRUTH]:.3f} mAP, the {made} one {score[best]:.3f}: "
        f"{closed:.0%} of the gap is closed."
    ]


def _fine_tuned_alike(score: dict[str, float]) -> list[str]:
    """The gap between models that all saw the same described pairs at the higher resolution."""
    if not {Row.FINE_TUNED, Row.PARSED_FINE_TUNED, Row.TRUTH_FINE_TUNED} <= score.keys():
        return []
    parsed, truth = score[Row.PARSED_FINE_TUNED], score[Row.TRUTH_FINE_TUNED]
    closed = (score[Row.FINE_TUNED] - parsed) / (truth - parsed) if truth > parsed else 0
    return [
        f"With the same fine-tuning parsed tags reach {parsed:.3f} and the truth {truth:.3f}: of that gap "
        f"{f'{closed:.0%}' if closed > 0 else 'nothing'} is closed."
    ]


def _rejected(report: dict[str, Any]) -> list[str]:
    total = sum(row["count"] for row in report["rejected"]["counts"])
    if not total:
        return []
    often = report["rejected"]["counts"][0]["reason"].replace("_", " ")
    return [f"{total:,} rows could not be used and were kept apart, the most frequent reason: {often}."]


def _count(flow: dict[str, Any], **wanted: Any) -> int:
    return sum(link["count"] for link in _links(flow, wanted))


def _right(flow: dict[str, Any], **wanted: Any) -> int:
    return sum(link["right"] for link in _links(flow, wanted))


def _links(flow: dict[str, Any], wanted: dict[str, Any]) -> list[dict[str, Any]]:
    return [link for link in flow["links"] if all(link[name] == value for name, value in wanted.items())]
