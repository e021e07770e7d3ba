from __future__ import annotations

import re

import pytest

from sightline.errors import MissingDataError, StudyError
from sightline.study import (
    load_study,
)
from study_examples import SMALLEST, steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (steps("sft: {lora: {alhpa: 3}}"), "steps.sft.lora.alhpa is not a key; did you mean alpha?"),
        (steps("sft: {lora: {rank: 0}}"), "steps.sft.lora.rank = 0: should be greater than or equal to 1"),
        (steps("sft: {learning_rat: 1}"), "steps.sft.learning_rat is not a key; did you mean learning_rate?"),
        (steps("sft: {method: sfd}"), "steps.sft.method = 'sfd': must be one of sft, dpo, average"),
        (steps("sft: {method: sfd}"), "did you mean sft?"),
        (steps("sft: {beta: 0.1}"), "steps.sft.beta is not a key"),
        (steps("sft: {row_tokens: lots}"), "steps.sft.row_tokens = 'lots': should be a valid integer"),
        (steps("sft: {row_tokens: lots}"), "or be 'auto'"),
        (steps("sft: {layout: forest}"), "steps.sft.layout = 'forest': should be 'tree' or 'flat'"),
        (steps("sft: {epochs: 1, max_steps: 2}"), "steps.sft: epochs is 1.0 and max_steps is 2"),
        (steps("sft: {seeds: [1, 1]}"), "names a seed twice"),
        (steps("sft: {members: {a: {lora.alhpa: 3}}}"), "steps.sft.members.a.lora.alhpa is not a key; did you mean"),
        (steps("sft: {members: {a: {seeds: [3]}}}"), "steps.sft.members.a.seeds: seeds belong to the step"),
        (steps("sft: {grid: {lora.alhpa: [3]}}"), "steps.sft.grid.lora.alhpa is not a key; did you mean alpha?"),
        (steps("sft: {grid: {epochs: []}}"), "steps.sft.grid has a key without values"),
        (steps("sft: {grid: {epochs: [1, 1]}}"), "two members called epochs1"),
        (steps("sft: {grid: {epochs: [1]}, members: {a: {}}}"), "has both members and grid"),
        (steps("sft: {on: data.trian}"), "steps.sft.on: no data is called data.trian; did you mean data.train?"),
        (steps("sft: {on: data}"), "steps.sft.on: data has several splits; say which: data.train, data.validation"),
        (steps("sft: {}\nmore: {from: stf}"), "steps.more.from: no model is called stf; did you mean sft?"),
        (steps("sft: {members: {small: {}}}\nmore: {from: sft.smal}"), "sft has no member smal; did you mean small?"),
        (steps("sft: {members: {a: {}, b: {}}}\nmore: {from: sft}"), "several models (sft.a, sft.b); name one"),
        (steps("sft: {seeds: [1]}\nmore: {from: sft@2}"), "asks for a seed that sft does not have; its seeds: 1"),
        (steps("sft: {from: base@2}"), "asks for a member or seed of base"),
        (steps("a: {from: b}\nb: {from: c}\nc: {from: a}"), "steps go in a circle: a needs b needs c needs a"),
        (steps("a: {from: a}"), "steps go in a circle: a needs a"),
        (steps("a: {}\nb: {from: a, seeds: [0]}"), "steps.b.seeds: only a root step has seeds"),
        (
            steps("a: {seeds: [0, 1]}\nb: {seeds: [0, 2]}\nc: {method: average, from: [a, b]}"),
            "steps.c: seeds [0, 1] and [0, 2] meet here",
        ),
        (steps("a: {}\nb: {method: average, from: a}"), "average needs at least two models and finds a"),
        (
            steps("a: {members: {x: {}, y: {}}}\nb: {method: average, from: a, weights: [1]}"),
            "steps.b.weights: 1 weights for 2 models",
        ),
        (steps("p: {method: critique, from: base, on: data.train}\na: {from: p}"), "it makes data, not a model"),
        (steps("data: {}"), "steps.data and data.data have the same name"),
        (steps("base: {}"), "'base' is the name of the study's base model"),
        (steps("a.b: {}"), "'a.b' cannot be a name"),
        (SMALLEST + "hardware: {memory_gib: -3}", "hardware.memory_gib = -3: should be greater than 0 or be 'auto'"),
        (SMALLEST + "hardware: {memory_gib: 0}", "hardware.memory_gib = 0: should be greater than 0"),
        (SMALLEST + "compare: [{model: stf}]", "compare[0].model: no model is called stf; did you mean sft?"),
        (SMALLEST + "compare: [{model: sft, against: sft}]", "compare[0]: sft is compared with itself"),
        (SMALLEST + "compare: [{model: sft, by: nil}]", "compare[0].by: nil is not among evaluate.metrics; did you"),
        (SMALLEST + "compare: [{modle: sft}]", "compare[0].modle is not a key; did you mean model?"),
        (SMALLEST + "compare: [{model: sft}]\nevaluate: {models: base}", "sft is not asked anything"),
        (SMALLEST + "evaluate: {metrics: []}", "evaluate.metrics = []"),
        (SMALLEST + "evaluate: {prompts: {a: 'Why?'}}", "prompts.a = 'Why?' does not contain {question}"),
        (SMALLEST + "evaluate: {models: stf}", "evaluate.models: no model is called stf; did you mean sft?"),
        (SMALLEST + "evaluate: yes", "evaluate = 'yes': should be a block of keys"),
        (SMALLEST + "evalute: {}", "evalute is not a key; did you mean evaluate?"),
        (SMALLEST + "accept: {some-fault: ''}", "accept.some-fault is empty: give the reason"),
        (SMALLEST + "models: {x: {}}", "models.x: needs base, adapter or both"),
        (SMALLEST + "judges: {x: {kind: critic}}", "judges.x: needs exactly one of server and base"),
        (SMALLEST + "base: other", ":3: key 'base' is already on line 1"),
        (SMALLEST + "accept: !!python/object/apply:os.getcwd []", ":3: could not determine a constructor"),
        (SMALLEST + "accept: [", "study0.yaml:3: the text ends within a bracket that is not closed; close it"),
        (
            "data:\n  a: 1\n b: 2\n",
            "study0.yaml:3: line 3 does not line up with the lines above it: look at its spaces",
        ),
        ("base: x\n  data: 3\n", "study0.yaml:2: line 2 has a ':' where none can be: look at its spaces"),
        ("base: x\ndata: a.csv]}\n}\n", "study0.yaml:3: line 3 closes a bracket that none before it opens"),
        ("base: x\ndata: {a: [b\nsteps: 1\n", "the bracket that opens on line 2 is not closed: put ']' at its end"),
        ('base: "x\ndata: a.csv\n', "study0.yaml:3: the quote that opens on line 1 is not closed"),
        ("data:\n\ta: 1\n", "study0.yaml:2: line 2 is indented by a tab; use spaces"),
        ("base: @x\n", "study0.yaml:1: a text with @ in front needs quotes"),
        ("base: x\ndata\nsteps: 1\n", "line 2 has no ':' after its key; write KEY: VALUE"),
        ("base: x\n", "data is missing"),
        ("data: my.csv\n", "base is missing"),
        ("base: x\ndata: {}\n", "evaluate.on is missing"),
        ("- base\n", "holds list, not keys"),
        (
            "base: x\ndata: {a: a.csv, b: b.csv}\nsteps: {sft: {}}\n",
            "steps.sft.on is missing; name data out of a.train",
        ),
        ("base: x\ndata: {a: {split: {test: 1}}}\n", "data.a: needs exactly one of source and mix"),
        ("base: x\ndata: {a: {source: a.csv, images: 3}}\n", "a number is for builtin:phantom"),
        ("base: x\ndata: {a: {source: a.csv, split: {test: 0.5}}}\n", "add up to 0.5; make it 1"),
        ("base: x\ndata: {a: {source: a.csv, split: {test: test, train: 0.5}}}\n", "mixes shares of all rows"),
        ("base: x\ndata: {a: {source: a.csv, split: {by: row}}}\n", "names no split"),
        ("base: x\ndata: {a: {source: s, split: {a: {from: b, share: 0.1}, t: c}}}\n", "cuts a from 'b', which is not"),
        ("base: x\ndata: {a: {source: s, split: {a: {form: c, share: 0.1}, t: c}}}\n", "form is not a key; did you"),
        (
            "base: x\ndata: {a: {source: s, split: {train: a, test: b}}}\nsteps: {sft: {keep: best}}\n",
            "steps.sft.keep: best is chosen by validation, and `on` has no validation split",
        ),
        ("base: x\ndata: {a: {sorce: a.csv}}\n", "data.a.sorce is not a key; did you mean source?"),
    ],
)
def test_a_fault_is_named_with_its_file_and_place(study_of, text, message):
    with pytest.raises(StudyError, match=re.escape(message)) as caught:
        study_of(text)
    assert all("study0.yaml" in line for line in str(caught.value).splitlines())


def test_all_faults_come_at_once(study_of):
    with pytest.raises(StudyError) as caught:
        study_of(steps("sft: {epochs: -1, lora: {ranc: 3}}") + "evaluate: {rows: 0}\n")
    assert len(str(caught.value).splitlines()) == 3


def test_a_study_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(MissingDataError, match="there is no such study file"):
        load_study(tmp_path / "study.yaml")


def test_a_study_is_text(tmp_path):
    (tmp_path / "study.yaml").write_bytes(b"base: \xff")
    with pytest.raises(StudyError, match="not UTF-8 text"):
        load_study(tmp_path / "study.yaml")
