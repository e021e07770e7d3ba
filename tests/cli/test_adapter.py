"""`sightline adapter`: adapters averaged, handed over, merged and compared from the command line."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sightline.models.adapter_files import ADAPTER_FILES
from sightline.models.adapters import attach_lora, save_adapter
from sightline.models.loading import base_location, load_model
from tiny_studies import sightline_command

CONFIG, WEIGHTS = ADAPTER_FILES


def done(*arguments: object) -> dict:
    ended = sightline_command("adapter", *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def refused(*arguments: object) -> str:
    ended = sightline_command("adapter", *arguments)
    assert ended.code == 2, ended.out
    return ended.err


@pytest.fixture
def adapter(rich_study: Path, tmp_path: Path) -> Path:
    """A copy of one of the study's adapters that is anybody's."""
    return Path(shutil.copytree(rich_study / "models" / "sft@0", tmp_path / "theirs"))


# --- average --------------------------------------------------------------------------------------------------------


def test_two_adapters_become_one(rich_study: Path, adapter: Path, tmp_path: Path) -> None:
    members = (adapter, f"{rich_study}:sft@1")
    ended = sightline_command("adapter", "average", *members, "--out", tmp_path / "mean", "--weights", "3,1")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == str(tmp_path / "mean")
    assert f"0.75 x {adapter} + 0.25 x {members[1]}; rank 32, exact; rounding leaves it" in ended.out
    first, second, mean = (
        load_file(f / WEIGHTS) for f in (adapter, rich_study / "models" / "sft@1", tmp_path / "mean")
    )
    name = min(mean)
    down, up = name, name.replace("lora_A", "lora_B")
    config = json.loads((adapter / CONFIG).read_text())
    scale = config["lora_alpha"] / config["r"]
    wanted = sum(w * scale * each[up].double() @ each[down].double() for w, each in ((0.75, first), (0.25, second)))
    torch.testing.assert_close(mean[up].double() @ mean[down].double(), wanted, rtol=0, atol=1e-9)
    made = done("average", *members, "--out", tmp_path / "small", "--svd-rank", 8)
    assert (made["kind"], made["rank"]) == ("svd", 8) and 0 < made["distance"] < 1
    assert made == {"folder": str(tmp_path / "small")} | json.loads((tmp_path / "small" / "average.json").read_text())


def test_the_naive_mean_has_its_own_name_and_its_distance(rich_study: Path, adapter: Path, tmp_path: Path) -> None:
    members = (adapter, f"{rich_study}:sft@1")
    ended = sightline_command("adapter", "average", *members, "--naive", "--out", tmp_path / "naive")
    assert ended.code == 0, ended.err
    told = re.search(
        r"the mean of the factors, which is not the mean: ([\d.]+)% from the mean of the updates", ended.out
    )
    assert told and float(told[1]) > 1
    assert "leave --svd-rank out" in refused("average", *members, "--naive", "--svd-rank", 4, "--out", tmp_path / "no")


def test_what_cannot_be_averaged_leaves_nothing_behind(rich_study: Path, adapter: Path, tmp_path: Path) -> None:
    out, one = ("--out", tmp_path / "out"), f"{rich_study}:sft@1"
    assert "the weight of" in refused("average", adapter, one, "--weights", "1,-1", *out)
    assert "--weights a,b: write numbers with commas between" in refused(
        "average", adapter, one, "--weights", "a,b", *out
    )
    assert "needs at least two models" in refused("average", adapter, *out)
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "somebody/else"}))
    assert "is for somebody/else and" in refused("average", adapter, one, *out)
    assert not (tmp_path / "out").exists()
    assert done("average", adapter, one, "--base", "builtin:tiny", *out)["kind"] == "exact"


# --- export ---------------------------------------------------------------------------------------------------------


def test_an_adapter_is_handed_over_as_it_is(rich_study: Path, tmp_path: Path) -> None:
    made = done("export", f"{rich_study}:sft@0", "--out", tmp_path / "out")
    for name in ADAPTER_FILES:
        assert (tmp_path / "out" / name).read_bytes() == (rich_study / "models" / "sft@0" / name).read_bytes()
    words = ["vllm", "serve", base_location("builtin:tiny"), "--enable-lora"]
    words += ["--lora-modules", f"sft@0={tmp_path / 'out'}", "--max-lora-rank", "16"]
    assert made == {"folder": str(tmp_path / "out"), "command": shlex.join(words), "notes": []}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: builtin:tiny" in card and "license: apache-2.0" in card
    assert "For research; not for clinical decisions." in card
    assert "is there already" in refused("export", f"{rich_study}:sft@0", "--out", tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"rank": 20}, "--max-lora-rank 32"),
        ({"targets": r".*(language_model|vision_tower)\..*v_proj"}, "--enable-tower-connector-lora"),
        (
            {"rank": 600, "targets": r".*language_model.*0\.self_attn\.q_proj"},
            "it has rank 600, and 512 is the highest; export it with",
        ),
        ({"dora": True, "train": ["projector"]}, "it is a DoRA adapter, and brings parts trained in full; export it"),
        ({"bias": "all"}, "it brings biases"),
    ],
)
def test_how_vllm_serves_it_or_why_it_does_not(tmp_path: Path, settings: dict, said: str) -> None:
    loaded = load_model("builtin:tiny", precision="fp32")
    attach_lora(loaded, **{"rank": 2, "alpha": 4, **settings})
    with torch.no_grad():
        for name, parameter in loaded.module.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    (tmp_path / "a").mkdir()
    save_adapter(loaded, tmp_path / "a")
    ended = sightline_command("adapter", "export", tmp_path / "a", "--out", tmp_path / "out")
    assert ended.code == 0 and said in ended.out, ended.err


# --- merge and parity -----------------------------------------------------------------------------------------------


def test_a_merged_model_says_the_same_and_four_bits_nearly(rich_study: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra `quantize`")
    model, out = f"{rich_study}:sft@0", tmp_path / "merged"
    made = done("export", model, "--merged", "--precision", "fp32", "--out", out)
    assert made["command"] == f"vllm serve {out}" and made["rounding"] == 0
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json"} < {file.name for file in out.iterdir()}
    found = done("parity", model, "--merged", out, "--rows", 6, "--max-new-tokens", 4)
    merged, four_bits = found["forms"]
    assert found["num_questions"] == 6 and found["reference"] == "base (plain weights) + adapter"
    assert merged["largest_difference"] < 1e-4 and merged["equal_answers"] == 1 and merged["parted"] == []
    assert four_bits["form"] == "base (nf4) + adapter"
    assert 1e-3 < four_bits["mean_difference"] < four_bits["largest_difference"]
    at = four_bits["largest_at"]
    assert abs(at["here"] - at["there"]) == pytest.approx(four_bits["largest_difference"])


def test_parity_says_where_answers_part(rich_study: Path, adapter: Path, tmp_path: Path) -> None:
    """Held against the merge of another adapter, which answers otherwise."""
    weights = load_file(adapter / WEIGHTS)
    generator = torch.Generator().manual_seed(0)
    other = {name: 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}
    (tmp_path / "other").mkdir()
    save_file(other, tmp_path / "other" / WEIGHTS)
    shutil.copyfile(adapter / CONFIG, tmp_path / "other" / CONFIG)
    done("merge", tmp_path / "other", "--out", tmp_path / "merged")
    found = done("parity", adapter, "--merged", tmp_path / "merged", "--rows", 4, "--max-new-tokens", 4)
    form = found["forms"][0]
    assert form["equal_answers"] < 1 and form["num_parted"] == round(4 * (1 - form["equal_answers"]))
    for parted in form["parted"]:
        assert parted["here"][:1] != parted["there"][:1]
    ended = sightline_command("adapter", "parity", adapter, "--merged", tmp_path / "merged", "--rows", 4)
    assert f"{form['parted'][0]['sample']} parts after" in ended.out


def test_what_is_no_adapter_is_named(rich_study: Path, adapter: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out")
    assert "is a base without an adapter" in refused("merge", f"{rich_study}:base", *out)
    assert "has no model 'dpo'; it has sft@0, sft@1" in refused("merge", f"{rich_study}:dpo", *out)
    assert f"write {rich_study}:MODEL" in refused("merge", rich_study, *out)
    assert "there is no such adapter's folder" in refused("merge", tmp_path / "nowhere", *out)
    weights = load_file(adapter / WEIGHTS)
    save_file({n: torch.zeros_like(t) if "lora_B" in n else t for n, t in weights.items()}, adapter / WEIGHTS)
    for command in (("merge", adapter, *out), ("export", adapter, *out), ("parity", adapter)):
        assert "the adapter changes nothing" in refused(*command)
    save_file({name.replace("layers.0", "layers.9"): tensor for name, tensor in weights.items()}, adapter / WEIGHTS)
    assert "tensors do not fit builtin:tiny" in refused("merge", adapter, *out)
    assert not (tmp_path / "out").exists()
