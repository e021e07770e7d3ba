from __future__ import annotations

import json
import re

import pytest

from sightline.study import (
    json_schema,
)
from sightline.study.keys import Keys
from sightline.study.reference import BLOCKS, key_tables, updated
from study_examples import ROOT


def test_the_json_schema_describes_every_key_and_refers_to_nothing_missing():
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema
    assert sorted(schema["required"]) == ["base", "data"]
    references = re.findall(r'"\$ref": "#/\$defs/(\w+)"', json.dumps(schema))
    assert references
    assert set(references) <= set(schema["$defs"])
    for block in [schema, *schema["$defs"].values()]:
        for name, key in block.get("properties", {}).items():
            # A key with the very description of its block leaves it to the block.
            described = schema["$defs"][key["$ref"].rpartition("/")[2]] if "$ref" in key else key
            assert key.get("description") or described.get("description"), f"{block['title']}.{name}"


def test_the_schema_writes_keys_as_the_file_does():
    schema = json_schema()
    assert {"from", "on", "members", "lora"} <= set(schema["$defs"]["Sft"]["properties"])
    assert "from_" not in schema["$defs"]["Sft"]["properties"]
    assert schema["$defs"]["Sft"]["additionalProperties"] is False
    assert {"type": "string"} in schema["properties"]["data"]["anyOf"]


@pytest.mark.parametrize(("title", "block", "_elsewhere"), BLOCKS, ids=[block[1].__name__ for block in BLOCKS])
def test_every_default_has_a_source(title, block, _elsewhere):
    for name, field in block.model_fields.items():
        extra = field.json_schema_extra or {}
        assert field.is_required() or extra.get("default_source"), f"{title}: {name}"


def test_every_block_has_its_table():
    def all_blocks(block: type[Keys]) -> set[type[Keys]]:
        return {block}.union(*map(all_blocks, block.__subclasses__()))

    assert all_blocks(Keys) - {Keys} == {block for _, block, _ in BLOCKS}


def test_the_page_about_the_study_file_is_current():
    page = (ROOT / "docs/study-file.md").read_text(encoding="utf-8")
    assert updated(page) == page, "run `python -m sightline.study.reference docs/study-file.md`"
    assert key_tables() in page


def test_the_page_is_refused_without_its_markers():
    with pytest.raises(ValueError, match="lacks the lines"):
        updated("# The study file\n")


def test_every_example_on_the_page_is_valid(study_of):
    page = (ROOT / "docs/study-file.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        if block.startswith("split:"):
            for line in block.splitlines():
                indented = f"base: x\ndata:\n  a:\n    source: a.csv\n    {line}\n"
                study_of(indented)
        elif block.startswith(("steps:", "models:")):
            study_of("base: x\ndata: {rad: rows.csv, pairs: pairs.csv}\nevaluate: {on: rad.test}\n" + block)
        else:
            study_of(block)
