"""What a check of a bad study finds: every severity, every shape of evidence, hostile texts among them."""

from __future__ import annotations

from report.hostile_study import ATTACKS
from sightline.checking.findings import Finding
from sightline.data.problems import REMEDIES, Problem

EVERYTHING = " ".join(ATTACKS)

FOUND = (
    Finding(
        name="trained-tokens",
        severity="note",
        message="rad.train: tokens trained: image 0 of 64, answer 5,310 of 5,310",
        evidence={"image": {"trained": 0, "total": 64}, "answer": {"trained": 5310, "total": 5310}},
    ),
    Finding(
        name="same-image-in-train-and-test",
        severity="warning",
        message=f"rad.test: 202 of 203 test pictures are seen in training, {EVERYTHING}",
        remedy=f"split by image {EVERYTHING}",
        evidence={"num_pictures": 202, "share": 0.9951, EVERYTHING: EVERYTHING, "places": {"a.png": [1, ATTACKS[0]]}},
    ),
    Finding(
        name="same-row-in-train-and-test",
        severity="fault",
        message="rad.test: 4 of 451 test questions are asked of the same picture in training",
        remedy="drop them from one side, or split by image",
        evidence={"rows": [["test.json:12", "train.json:640"], ["test.json:77", ATTACKS[1]]], "num_questions": 4},
        accepted="replaying the published split",
    ),
    Finding(
        name="end-not-trained",
        severity="fault",
        message="rad.train: in 1794 of 1794 rows the answer's end is not a target",
        remedy="set eos: auto",
        evidence={"rows": [f"train.json:{number}" for number in range(1, 26)]},
    ),
    Finding(
        name="data-size",
        severity="note",
        message="rad.train: 1,794 rows on 313 images",
        evidence={"num_rows": 1794, "num_images": 313, "max_per_image": 10, "CLOSED": 1000},
    ),
    Finding(name=ATTACKS[0], severity="fault", message=EVERYTHING, remedy=ATTACKS[3]),
)

PROBLEMS = (
    Problem(
        file="train.json",
        row=17,
        id="17",
        kind="truncated-image",
        found=f"a damaged JPEG {EVERYTHING}",
        remedy=REMEDIES["truncated-image"],
        image="synpic371.jpg",
    ),
    Problem(
        file="train.json", row=40, id="40", kind="cmyk", found="a CMYK picture", remedy=REMEDIES["cmyk"], repaired=True
    ),
)
