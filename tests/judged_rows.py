"""Rows to be judged, and a judge whose opinion is worked out from the prompt alone; run as a script, it is a client
that can be killed.

    python tests/judged_rows.py ADDRESS LEDGER ROWS WORKERS
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from sightline.generation.ledger import Ledger
from sightline.generation.remote import RemoteEngine, connect
from sightline.records import Message, Sample
from sightline.scoring.judge import Asked, Judgement, judge_answers
from sightline.scoring.medical import FOUND, WRONG, medical_kind


def rows(number: int) -> list[Asked]:
    """Rows with answers, all different."""
    return [
        Asked(
            sample=Sample(
                id=f"row-{place}",
                pictures=(),
                messages=(Message(role="user", content=(f"Is there a nodule in picture {place}?",)),),
                answer="Yes" if place % 2 else "No",
                origin=f"rows.csv:{place + 2}",
            ),
            text=f"I see {place % 7} nodules.",
        )
        for place in range(number)
    ]


def opinion(body: dict[str, Any]) -> str:
    """A medical judge's reply, different for different prompts and always the same for one."""
    digest = hashlib.sha256(body["messages"][0]["content"][-1]["text"].encode()).digest()
    values = {FOUND: digest[0] % 2 == 0, WRONG: digest[1] % 3 == 0, "confidence": 1 + digest[2] % 5}
    return f"Here is what I think.\n{json.dumps(values)}"


def judge(engine: RemoteEngine, number: int) -> list[Judgement]:
    """Have the rows judged."""
    return judge_answers(medical_kind(), engine, rows(number))


if __name__ == "__main__":
    address, path, num_rows, workers = sys.argv[1:]
    ledger = Ledger(Path(path))
    engine = connect(address, "judge", concurrency=int(workers), ledger=ledger)
    print(len(judge(engine, int(num_rows))))
