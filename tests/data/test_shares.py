"""A first split has enough pictures to test on wherever shares can do that, however rows lie on pictures."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sightline.checking.power import check_enough
from sightline.data.shares import SHARES, choose_shares
from sightline.data.splits import split_samples
from sightline.errors import DataError
from sightline.records import Message, Picture, Sample

LEAST = 6


def rows_on(per_picture: Sequence[int], seed: int = 0, **tags: str) -> list[Sample]:
    """Rows about as many pictures as there are numbers, so many rows each."""
    return [
        Sample(
            id=f"{number}-{row}",
            pictures=(Picture(name=str(number), sha256=f"{seed:032x}{number:032x}", width=8, height=8),),
            messages=(Message(role="user", content=("?",)),),
            answer="",
            tags=tags | {"owner": f"p{number // 2}"},
        )
        for number, num_rows in enumerate(per_picture)
        for row in range(num_rows)
    ]


@pytest.mark.parametrize(
    ("per_picture", "said"),
    [
        ([3] * 90, ""),
        ([1] * 12, "12 pictures are few. With fewer than 6 to test on, no difference can be called real, so "),
        ([2] * 33, "so test has a share of 20% of the rows here, which gives "),
        ([300] + [1] * 70, "370 rows are spread unevenly over 71 pictures, up to 300 on one. With fewer than 6"),
        ([400, 300, 200] + [1] * 150, "1,050 rows are spread unevenly over 153 pictures, up to 400 on one"),
        ([40] * 8 + [1] * 60, "380 rows are spread unevenly over 68 pictures, up to 40 on one"),
    ],
)
def test_what_is_chosen_passes_the_check_whatever_pictures_come_first(per_picture: list[int], said: str) -> None:
    remarks = []
    for seed in range(20):  # other pictures, hence another order
        rows = rows_on(per_picture, seed)
        shares, remark = choose_shares(rows, LEAST)
        parts = split_samples(rows, shares)
        assert list(check_enough("d.test", parts["test"], least=5, decisive=LEAST)) == [], (seed, shares)
        assert len(parts["train"]) > 0.3 * len(rows) and sum(shares.values()) == pytest.approx(1), (seed, shares)
        assert (remark == "") == (shares == SHARES)
        remarks.append(remark)
    assert any(said in remark for remark in remarks) if said else not any(remarks)


def test_too_few_pictures_are_said_to_be_too_few() -> None:
    few = rows_on([2] * 9)
    shares, remark = choose_shares(few, LEAST)
    num_test = len({row.image_id for row in split_samples(few, shares)["test"]})
    assert num_test < LEAST
    assert remark.startswith("9 pictures are few. With fewer than 6 to test on, no difference can be called real, and")
    assert remark.endswith(f"which gives {num_test}, without a validation split; add pictures")
    with pytest.raises(DataError):
        split_samples(rows_on([9]), choose_shares(rows_on([9]), LEAST)[0])
    assert choose_shares(rows_on([9]), LEAST)[1].endswith("and these rows cannot be divided at all; add pictures")
    starved = [choose_shares(rows_on([1000] + [1] * 30, seed), LEAST)[1] for seed in range(20)]
    assert any("; that leaves 16 of 1,030 rows to learn from; add pictures" in remark for remark in starved)
    assert choose_shares([], LEAST)[1].startswith("no row can be used as it is")


def test_patients_are_counted_where_they_stay_together() -> None:
    rows = rows_on([2] * 100)
    assert choose_shares(rows, LEAST) == (SHARES, "")
    shares, remark = choose_shares(rows, LEAST, by="owner")
    assert remark.startswith("50 values of owner are few") and shares["test"] > SHARES["test"]
    assert len({row.tags["owner"] for row in split_samples(rows, shares, by="owner")["test"]}) >= LEAST
