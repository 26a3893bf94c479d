"""Map stage `judge`: keeps or removes every tag, with the reason, and says what the retrained model is to be taught.

Reads pairs, caption_tags, generated and regions (aligned), clusters, label_system, tag_bars and judge_checks (pinned);
writes tag_verdicts, one row for every tag that a caption names, that a generated caption names, or that was predicted.

A region is good when the annotator predicts the tag for the region alone and when it is no outlier of the tag's
clusters. A tag falls where it has regions and none is good, unless the whole picture leaves no doubt about it. What
has no place in a picture (attributes, scenes, actions) is not judged by regions.

A caption of another picture has all its tags wrong. So a tag that a caption names falls as well where it and the other
tags of that caption are, together, less likely than their frequency lets expect, or where no caption that names it fits
the picture in the eyes of the caption judge, if there is one.

A word of a caption is a person's: a test removes it only where `audit` found that this test is right more often than
the captions are, and generated captions are listened to only where they proved right. Added tags fall for any test.

What a person decided (verdict_edits, optional) wins over all of this, and may add a tag that nothing claims.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from storage.schemas import TagSource, contract
from tasks.judging.typicality import TagClusters, is_good, read_clusters, typicality
from tasks.machine.inputs import Inputs
from tasks.settings.executor import ExecutorSettings
from tasks.settings.judge import JudgeSettings

REASONS = ("caption_disagrees", "cluster_outlier", "region_not_predicted", "no_box")  # for which a tag may fall
CAPTIONER = "captioner"
IN_SQL = {"doubt", "region_threshold", "no_box", "least_agreement", "least_caption_fit"}  # settings that it obeys


def build(
    settings: JudgeSettings, inputs: Inputs, executor: ExecutorSettings
) -> Callable[[Mapping[str, pa.Table]], Mapping[str, pa.Table]]:
    """The worker of this stage."""
    clusters = read_clusters(inputs.table("clusters"))
    expected = expected_shares(inputs.table("tag_bars"))
    proven = proven_tests(inputs.table("judge_checks"))
    label_system = inputs.table("label_system", ["tag_id", "groundable"])
    edits = inputs.table("verdict_edits") if inputs.has("verdict_edits") else None

    def judge(shard: Mapping[str, pa.Table]) -> Mapping[str, pa.Table]:
        regions = measured(shard["regions"], clusters, settings)
        return {"tag_verdicts": decide(shard, regions, expected, settings, label_system, proven, edits)}

    return judge


def expected_shares(bars: pa.Table) -> pa.Table:
    """(tag_id, expected): in what share of the pictures each tag is, of ``tag_bars``."""
    return bars.select(["tag_id", "plausible"]).rename_columns(["tag_id", "expected"])


def proven_tests(checks: pa.Table) -> frozenset[str]:
    """The names of the ``judge_checks`` that were passed: the captioner, and reasons for which captions' words fall."""
    return frozenset(row["check"] for row in checks.to_pylist() if row["passed"])


def decide(
    shard: Mapping[str, pa.Table],
    regions: pa.Table,
    expected: pa.Table,
    settings: JudgeSettings,
    label_system: pa.Table,
    proven: Collection[str],
    edits: pa.Table | None = None,
) -> pa.Table:
    """The verdicts of a shard: from its claims and scores, its ``regions`` (as :func:`measured`), what is
    ``expected`` of each tag (tag_id, expected), whose captions are then held against the picture as well, which tags of
    ``label_system`` (tag_id, groundable) can have a region, and the ``edits`` of a person.

    A caption's word falls only for the reasons in ``proven``, and generated captions count only with ``CAPTIONER`` in
    it.
    """
    with duckdb.connect() as connection:
        for name in ("pairs", "caption_tags", "generated"):
            connection.register(name, shard[name].select(_COLUMNS[name]))
        connection.register("regions", regions)
        connection.register("expected", expected)
        connection.register("label_system", label_system)
        connection.register("edits", contract("verdict_edits").schema.empty_table() if edits is None else edits)
        rules = settings.model_dump(include=IN_SQL)
        rules |= {"captioner": CAPTIONER in proven, "proven": [reason for reason in REASONS if reason in proven]}
        verdicts: pa.Table = connection.sql(_VERDICTS, params=rules).to_arrow_table()
    return verdicts.cast(contract("tag_verdicts").schema)


def measured(regions: pa.Table, clusters: Mapping[int, TagClusters], settings: JudgeSettings) -> pa.Table:
    """``regions`` with their ``typicality`` and whether they are ``good``, and without what is large."""
    typical = typicality(regions, clusters, settings.outlier_measure)
    score = pc.fill_null(regions["tag_score"], 1).to_numpy()  # of an annotator that cannot look at a region
    good = is_good(score, typical, settings.region_threshold, settings.outlier_share)
    return (
        regions.drop_columns(["feature", "box"])
        .append_column("typicality", pa.array(typical, pa.float32(), from_pandas=True))
        .append_column("good", pa.array(good, pa.bool_()))
    )


_COLUMNS = {
    "pairs": ["image_id"],
    "caption_tags": ["image_id", "caption_index", "tag_ids"],
    "generated": ["image_id", "caption_tag_ids", "caption_fits", "original_caption_fits", "scores", "predicted"],
}

_VERDICTS = f"""
WITH claims AS (
    SELECT image_id, unnest(tag_ids) AS tag_id, {TagSource.CAPTION} AS source FROM caption_tags
    UNION ALL SELECT image_id, unnest(flatten(caption_tag_ids)), {TagSource.GENERATED_CAPTION}
    FROM generated WHERE $captioner
    UNION ALL SELECT image_id, unnest(predicted), {TagSource.PREDICTED} FROM generated
    UNION ALL SELECT image_id, tag_id, {TagSource.BY_HAND} FROM edits WHERE kept
),
tags AS (
    SELECT image_id, tag_id, bit_or(source) AS source FROM claims SEMI JOIN pairs USING (image_id)
    GROUP BY image_id, tag_id
),
scores AS (SELECT image_id, unnest(scores, recursive := true) FROM generated),
least AS (SELECT image_id, min(score) AS score FROM scores GROUP BY image_id),
lifts AS (
    SELECT image_id, caption_index, tag_id,
        ln(greatest(coalesce(scores.score, least.score, 0), 1e-4)) - ln(greatest(expected, 1e-4)) / 2 AS lift
    FROM (SELECT image_id, caption_index, unnest(tag_ids) AS tag_id FROM caption_tags) AS named
    LEFT JOIN scores USING (image_id, tag_id) LEFT JOIN least USING (image_id) JOIN expected USING (tag_id)
),
agreements AS (
    SELECT image_id, tag_id, max(agreement) AS agreement FROM (
        SELECT image_id, tag_id,
            -- the tag itself, and the mean of the others of its caption (itself again where it is alone)
            lift + coalesce((sum(lift) OVER caption - lift) / nullif(count(*) OVER caption - 1, 0), lift) AS agreement
        FROM lifts WINDOW caption AS (PARTITION BY image_id, caption_index)
    ) GROUP BY image_id, tag_id
),
fits AS (  -- of the caption that fits best among those that name a tag
    SELECT image_id, tag_id, max(coalesce(fit, 1)) AS fit FROM (
        SELECT image_id, unnest(tag_ids) AS tag_id, original_caption_fits[caption_index + 1] AS fit
        FROM caption_tags JOIN generated USING (image_id) WHERE caption_index >= 0
        UNION ALL SELECT image_id, unnest(named), fit FROM (
            SELECT image_id, unnest(caption_tag_ids) AS named, unnest(caption_fits) AS fit FROM generated
        ) WHERE named IS NOT NULL
    ) GROUP BY image_id, tag_id
),
looked AS (
    SELECT
        image_id, tag_id, max(tag_score) AS region_score, max(typicality) AS typicality,
        -- an annotator that cannot look at a region speaks against none
        bool_or(coalesce(tag_score, 1) >= $region_threshold) AS any_predicted,
        bool_or(good) AS any_good
    FROM regions GROUP BY image_id, tag_id
),
judged AS (
    SELECT
        tags.*, looked.region_score, looked.typicality,
        -- an agreement is a log-likelihood: relative to the one at which a caption's tag falls it is the log of odds
        CASE WHEN agreement IS NULL THEN coalesce(scores.score, least.score, 0)
            ELSE 1 / (1 + exp(greatest(-30, least(30, $least_agreement - agreement)))) END AS confidence,
        -- a tag whose score was not kept has less than the least that was
        coalesce(scores.score, least.score, 0) AS score,
        CASE
            WHEN answered.image_id IS NULL THEN 'kept'  -- the annotator failed on the image: nothing speaks against it
            WHEN (agreement < $least_agreement OR fits.fit < $least_caption_fit) AND source & {TagSource.PREDICTED} = 0
                THEN 'caption_disagrees'
            WHEN looked.image_id IS NULL AND NOT coalesce(groundable, false) THEN 'kept'
            WHEN looked.image_id IS NULL THEN 'no_box'
            WHEN any_good THEN 'kept'
            WHEN any_predicted THEN 'cluster_outlier'
            ELSE 'region_not_predicted'
        END AS found
    FROM tags LEFT JOIN (SELECT image_id FROM generated) AS answered USING (image_id)
    LEFT JOIN scores USING (image_id, tag_id) LEFT JOIN least USING (image_id)
    LEFT JOIN looked USING (image_id, tag_id) LEFT JOIN agreements USING (image_id, tag_id)
    LEFT JOIN label_system USING (tag_id) LEFT JOIN fits USING (image_id, tag_id)
),
decided AS (
    SELECT *,
        CASE
            WHEN source & {TagSource.CAPTION} > 0 AND NOT list_contains($proven, found) THEN true
            WHEN found = 'caption_disagrees' THEN false
            WHEN found = 'no_box' THEN $no_box = 'keep'
            WHEN found = 'kept' THEN true
            ELSE score >= $doubt
        END AS kept
    FROM judged
)
SELECT
    image_id, tag_id, source, score,
    CASE
        WHEN NOT coalesce(edits.kept, decided.kept) THEN 0
        WHEN edits.kept OR source & {TagSource.CAPTION} > 0 THEN 1
        ELSE score
    END AS target,
    region_score, typicality, confidence,
    coalesce(edits.kept, decided.kept) AS kept,
    CASE
        WHEN edits.kept THEN 'kept_by_hand'
        WHEN NOT edits.kept THEN 'removed_by_hand'
        WHEN decided.kept AND found <> 'no_box' THEN 'kept'
        ELSE found
    END AS reason
FROM decided LEFT JOIN edits USING (image_id, tag_id) ORDER BY image_id, tag_id
"""
"""DuckDB: from a shard's claims, scores and measured regions to its verdicts."""
