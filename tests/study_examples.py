"""Studies as text, and how tests make more of them."""

from __future__ import annotations

from pathlib import Path

from sightline.study import Study, plan_study

ROOT = Path(__file__).parents[1]

SMALLEST = "base: llava-hf/llava-1.5-7b-hf\ndata: my.csv\n"

SELF_CRITIQUE = """
name: self-critique-dpo
base: llava-hf/llava-1.5-7b-hf
data:
  charts: {source: lmms-lab/LLaVA-OneVision-Data, subset: lrv_chart, format: llava,
           split: {train: 0.8, validation: 0.1, test: 0.1, by: image}}
steps:
  sft:   {method: sft, from: base, on: charts.train, quantize: nf4, lora: {rank: 16}, epochs: 3, seeds: [0, 1, 2],
          members: {sft1: {lora.alpha: 16, lora.dropout: 0.05}, sft2: {lora.alpha: 8, lora.dropout: 0.05},
                    sft3: {lora.alpha: 16, lora.dropout: 0.10}, sft4: {lora.alpha: 8, lora.dropout: 0.10}}}
  sfte:  {method: average, from: sft}
  pairs: {method: critique, from: sfte, on: charts.train, rows: 500, samples: 2, temperature: 1.1, top_k: 40}
  dpo:   {method: dpo, from: sfte, on: pairs, beta: 0.1}
models:
  other: {base: Qwen/Qwen3-VL-2B-Instruct}
  published: {adapter: owner/name}
evaluate: {on: charts.test, metrics: [nll, bleu, rouge_l, critic],
           prompts: {plain: "{question}", short: "{question}\\nAnswer briefly."}}
judges:
  critic: {kind: critic, server: "http://localhost:8000/v1", model: lmms-lab/llava-critic-7b, key_env: CRITIC_KEY,
           send_images: true}
compare:
  - {model: sfte, against: base, by: critic}
  - {model: dpo, against: sfte, by: critic}
hardware: {precision: auto, memory_gib: auto, row_tokens: auto}
"""


def steps(text: str) -> str:
    """The smallest study with these steps and no stated comparison."""
    return f"{SMALLEST}compare: []\nsteps:\n" + "".join(f"  {line}\n" for line in text.strip().splitlines())


def run_names(study: Study) -> list[str]:
    return [run.name for run in plan_study(study).runs]
