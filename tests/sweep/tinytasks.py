"""Task files for lm-eval over made-up questions, in a folder as a user's own would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

LOADER = """
import json
from pathlib import Path
import datasets

def load(file, **_):
    rows = [json.loads(l) for l in (Path(__file__).parent / file).read_text().splitlines()]
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list([r for r in rows if r["split"] == split])
         for split in ("shown", "asked")}
    )
"""
CHOICE = """
task: {name}
custom_dataset: !function 'own_data.load'
dataset_kwargs: {{file: {name}.jsonl}}
output_type: multiple_choice
test_split: asked
fewshot_split: shown
fewshot_config: {{sampler: first_n}}
num_fewshot: {shots}
doc_to_text: "Question: {{{{question}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: label
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1}}
"""
GENERATED = """
task: spoken
custom_dataset: !function 'own_data.load'
dataset_kwargs: {file: even.jsonl}
output_type: generate_until
test_split: asked
fewshot_split: shown
fewshot_config: {sampler: first_n}
num_fewshot: 2
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{choices[label]}}"
generation_kwargs: {until: ["\\n\\n"], max_gen_toks: 12, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
metadata: {version: 1}
"""
GROUP = """
group: both
task: [even, odd]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
metadata: {version: 1}
"""


def write(folder: Path, documents: int = 7) -> Path:
    """The folder with a group `both` of tasks `even` and `odd`, and `spoken`, which generates."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own_data.py").write_text(LOADER)
    for name, shots, more in (("even", 2, 0), ("odd", 0, 2)):
        (folder / f"{name}.yaml").write_text(CHOICE.format(name=name, shots=shots))
        rows = _rows(name, documents + more)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "both.yaml").write_text(GROUP)
    (folder / "spoken.yaml").write_text(GENERATED)
    return folder


def _rows(name: str, documents: int) -> list[dict[str, object]]:
    rng = np.random.default_rng(len(name))
    words = np.array(
        ["cache", "model", "keeps", "what", "token", "reads", "more", "than", "others"]
    )

    def text(count: int) -> str:
        return " ".join(rng.choice(words, size=count))

    return [
        {
            "split": "shown" if i < 2 else "asked",
            "question": text(6 + i % 4),
            "choices": [text(2), text(1), text(3)],
            "label": int(rng.integers(3)),
        }
        for i in range(documents + 2)
    ]
