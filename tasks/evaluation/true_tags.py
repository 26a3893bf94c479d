"""How the truth's words become tags. Only evaluation, its ceiling and the report read the truth."""

from __future__ import annotations

TRUE_TAGS_SQL = """
WITH words AS (
    SELECT tag_id, type, unnest(list_append(synonyms, name)) AS word FROM label_system WHERE active
), said AS (SELECT image_id, unnest(tags, recursive := true) FROM truth),
found AS (
    SELECT image_id, tag_id, said.type = words.type AS same, name FROM said JOIN words ON said.name = words.word
)
SELECT DISTINCT image_id, tag_id FROM found
QUALIFY same OR NOT bool_or(same) OVER (PARTITION BY image_id, name)
"""
"""DuckDB over `truth` and `label_system`: (image_id, tag_id) of all that is true, found among names and synonyms.

A word that is the name of several tags means the one of its own type, else all of them.
"""
