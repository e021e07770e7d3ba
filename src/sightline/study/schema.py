"""The keys of a study file, block by block. What they mean together is `plan`'s business."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from sightline.study.keys import Keys, Name, Names, key
from sightline.study.servers import Served
from sightline.study.steps import Step

Share = Annotated[float, Field(gt=0, le=1)]
Reason = Annotated[str, Field(pattern=r"\S")]


class Cut(Keys):
    """A split cut out of one that the source releases."""

    from_: str = key(alias="from")
    """The source's split that loses these rows."""
    share: Share = key()
    """Share of that split's groups (`by`) that is cut out."""


class Split(Keys):
    """How rows are divided: each further key is a split's name.

    A number is a share of all rows, a word is a split that the source releases, and
    `{from: SPLIT, share: S}` cuts a share out of a released one.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Share | str | Cut] = Field(init=False)

    by: str = key("image", "questions about one picture must not meet on both sides")
    """What stays together: all rows of a picture (`image`), nothing (`row`), or all rows and pictures of a tag's value
    (`patient`)."""
    stratify: str | None = key(None, "shares of rows alone")
    """A tag (`answer_type`): every split gets its share of each of its values."""

    @property
    def parts(self) -> dict[str, float | str | Cut]:
        """Every split with what it is made of, in the order given."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def shares(self) -> dict[str, float]:
        """Splits that are a share of all rows."""
        return {name: part for name, part in self.parts.items() if isinstance(part, float)}

    @property
    def released(self) -> dict[str, str]:
        """Splits that the source releases, with its name for each."""
        return {name: part for name, part in self.parts.items() if isinstance(part, str)}

    @property
    def cuts(self) -> dict[str, Cut]:
        """Splits cut out of a released one."""
        return {name: part for name, part in self.parts.items() if isinstance(part, Cut)}

    @model_validator(mode="after")
    def _fits_together(self) -> Split:
        if not self.parts:
            raise ValueError("names no split; write for example {train: 0.8, validation: 0.1, test: 0.1}")
        if self.shares and (self.released or self.cuts):
            raise ValueError("mixes shares of all rows with released splits; write {from: SPLIT, share: S}")
        if self.shares and not math.isclose(total := sum(self.shares.values()), 1, abs_tol=1e-6):
            raise ValueError(f"has shares that add up to {total:g}; make it 1, and use `take` for fewer rows")
        for name, cut in self.cuts.items():
            if cut.from_ not in self.released.values():
                raise ValueError(f"cuts {name} from {cut.from_!r}, which is not among {sorted(self.released.values())}")
        return self


DEFAULT_SPLIT = Split.model_validate({"train": 0.8, "validation": 0.1, "test": 0.1})


class Data(Keys):
    """One data set: where its rows come from and how they are divided."""

    source: str | None = key(None, "needed unless `mix` is given")
    """A file or folder (from `data_root`), a hub name, or `builtin:phantom`."""
    subset: str | None = key(None, "the source's default")
    """Configuration of the source."""
    format: str | None = key(None, "found out from the file")
    """How rows are read: the name of a known data set or layout."""
    columns: dict[str, str | list[str | None] | None] = key({}, "found out from the names")
    """Our field (`image`, `question`, `answer`, ...) to the source's column."""
    images: int | str | None = key(None, "the format's own, or the file's folder")
    """Folder or archive that picture paths start from; for `builtin:phantom`, how many pictures to draw."""
    take: int | None = key(None, "all", ge=1)
    """First rows of each of the source's splits to keep, after `where`."""
    where: dict[str, str | int | float | bool | list[str | int | float | bool]] = key({}, "every row")
    """Columns with the value, or the list of values, that a row must have."""
    allow_ties: bool = key(False, "a pair of equal answers teaches nothing")
    """Keep preference pairs whose chosen answer equals the rejected one."""
    mix: dict[str, Annotated[float, Field(gt=0)]] = key({}, "no mixing")
    """Other sets (`set.split`) in place of a source: how many rows of each, or its share of all, adding up to 1."""
    split: Split = key(DEFAULT_SPLIT, "80/10/10 is common for small sets")
    """Split names with shares, or with the source's own split names."""
    seed: int = key(0, "a fixed number, so that everyone cuts alike")
    """Seed of the split, of what is drawn for a mixture, and of `builtin:phantom`'s pictures."""

    def _refuse_what_a_mixture_has_not(self) -> None:
        for name in ("subset", "format", "columns", "images", "where"):
            if getattr(self, name):
                raise ValueError(f"{name} does not go with mix; it belongs to the sets that are mixed")
        amounts = list(self.mix.values())
        if all(float(amount).is_integer() for amount in amounts):
            if min(amounts) < 2:
                raise ValueError(f"mix = {self.mix}: is 1 a share or a row? Give shares that add up to 1, or rows")
            if self.take is not None:
                raise ValueError("take does not go with numbers of rows in mix; give one of them")
        elif not math.isclose(total := sum(amounts), 1, abs_tol=1e-6):
            raise ValueError(f"mix has shares that add up to {total:g}; make it 1, or give whole numbers of rows")

    @model_validator(mode="after")
    def _one_origin(self) -> Data:
        if bool(self.source) == bool(self.mix):
            raise ValueError("needs exactly one of source and mix")
        if self.mix:
            self._refuse_what_a_mixture_has_not()
        drawn = (self.source or "").startswith("builtin:")
        if isinstance(self.images, int) and (not drawn or self.images < 1):
            raise ValueError(f"images = {self.images}: a number is for builtin:phantom, from 1 on; else give a folder")
        if isinstance(self.images, str) and drawn:
            raise ValueError(f"images = {self.images!r}: builtin:phantom draws its pictures; give their number")
        return self


def with_source(block: Any) -> Any:
    """Read `my.csv` as `{source: my.csv}`."""
    return {"source": block} if isinstance(block, str) else block


def with_names(data: Any) -> Any:
    """Read one file, or one data set's block, as a set named `data`."""
    if isinstance(data, str) or (isinstance(data, dict) and isinstance(data.get("source"), str)):
        data = {"data": data}
    return {name: with_source(block) for name, block in data.items()} if isinstance(data, dict) else data


DataSets = Annotated[
    dict[Name, Annotated[Data, BeforeValidator(with_source, json_schema_input_type=str | Data)]],
    BeforeValidator(with_names, json_schema_input_type=str | Data | dict[Name, str | Data]),
]


class OtherModel(Served):
    """A model that this study did not make: on this machine, or on a server."""

    base: str | None = key(None, "the study's base, unless there is a server")
    """A hub name, a folder, or `builtin:tiny`."""
    adapter: str | None = key(None, "none")
    """An adapter on that base: a hub name or a folder."""

    @model_validator(mode="after")
    def _names_something(self) -> OtherModel:
        if self.server is None and self.base is None and self.adapter is None:
            raise ValueError("needs base, adapter or both, or a server")
        if self.server is not None and (self.base or self.adapter):
            raise ValueError(f"{'base' if self.base else 'adapter'} is of a model here, and server of one elsewhere")
        return self


class AnswerDecoding(Keys):
    """How the answers to one test set are generated, where it differs from the other sets."""

    max_new_tokens: int | None = key(None, "that of `evaluate`", ge=1)
    """Longest answer, in tokens."""
    num_beams: int | None = key(None, "that of `evaluate`", ge=1)
    """Beams of beam search."""
    temperature: float | None = key(None, "that of `evaluate`", ge=0)
    """Sampling temperature; 0 is greedy."""


class Evaluate(Keys):
    """What every model is asked."""

    on: Names = key((), "the only data set's test split")
    """Test data, as `set.split`; a name or a list."""
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = key(
        ("exact_match", "closed_accuracy", "open_recall", "nll"),
        "LLaVA-Med: accuracy of closed questions, recall of open ones",
    )
    """Metrics, the primary one first; a name, a judge, or `file.py:function`."""
    prompts: Annotated[dict[Name, str], Field(min_length=1)] = key({"plain": "{question}"}, "questions as they are")
    """Wordings by name; `{question}` stands for the question."""
    models: Names | None = key(None, "base, every step's models, and `models`")
    """The models to ask."""
    untouched: str | None = key(None, "none")
    """A set (`set.split`) outside the training domain, which shows what was forgotten."""
    max_new_tokens: int = key(64, "VQA answers are shorter; raise it for descriptions", ge=1)
    """Longest answer, in tokens."""
    num_beams: int = key(1, "greedy", ge=1)
    """Beams of beam search."""
    temperature: float = key(0.0, "greedy: the same answer every time", ge=0)
    """Sampling temperature; 0 is greedy."""
    decoding: dict[str, AnswerDecoding] = key({}, "all sets alike")
    """Test sets (`set.split`) whose answers are generated otherwise."""
    stages: bool = key(True, "what an order does shows on the way")
    """Ask a curriculum's model after each of its stages, too; it is called `STEP[.MEMBER]~STAGE[@SEED]` there."""
    rows: int | None = key(None, "all", ge=1)
    """First rows of each set to ask."""
    pictures_matter: bool = key(False, "it takes three times as long")
    """Ask again with blank pictures and with other samples', and say which model or set does without looking."""

    @model_validator(mode="after")
    def _asks_the_question(self) -> Evaluate:
        for name, wording in self.prompts.items():
            if "{question}" not in wording:
                raise ValueError(f"prompts.{name} = {wording!r} does not contain {{question}}")
        for name in (None, *self.decoding):
            own, where = self.for_set(name), f"decoding.{name}." if name else ""
            if own.num_beams > 1 and own.temperature > 0:
                told = f"num_beams: {own.num_beams} searches, temperature: {own.temperature:g} draws"
                raise ValueError(f"{where}{told}; use one")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"metrics names one twice: {', '.join(self.metrics)}")
        return self

    def for_set(self, name: str | None) -> Evaluate:
        """Give the block as it holds for one test set: with its `decoding` in place of what all sets have."""
        own = self.decoding.get(name or "")
        return self if own is None else self.model_copy(update=own.model_dump(exclude_none=True))


class Judge(Served):
    """A model that scores answers."""

    kind: Literal["critic", "pairwise", "medical", "rubric", "shr"] = key()
    """What it is asked: a score out of 100, the better of two answers, findings, marks by a rubric, or sentence by
    sentence what is made up. On a server, `critic` and `pairwise` need `send_images`; `rubric` shows pictures where it
    is set."""
    base: str | None = key(None, "the judge is on a server")
    """A local model: hub name or folder."""
    rubric: str | None = key(None, "sightline's own, see docs/judges.md")
    """YAML file of criteria, for `kind: rubric`."""
    against: str = key("base", "the untuned model")
    """For `kind: pairwise`, the model whose answers it compares with, or `reference`."""
    parser: Literal["sightline", "original", "first-number"] = key("sightline", "see docs/judges.md")
    """How replies are read: `original` for `medical` and `shr`, `first-number` for `critic`."""
    temperature: float = key(0.0, "greedy: the same opinion every time", ge=0)
    """Sampling temperature of its replies; 0 is greedy."""
    top_p: float | None = key(None, "all tokens", gt=0, le=1)
    """Sample among the likeliest tokens that together reach this probability."""
    max_new_tokens: int | None = key(None, "medical 250, shr 800, rubric 1,024, critic and pairwise 4,096", ge=1)
    """Longest reply, in tokens."""
    reasks: int = key(2, "every reply counts as it comes; these are counted apart", ge=0)
    """How often a reply that cannot be read is asked for again."""
    audit_rows: int = key(20, "a few calls per row and test, once per judge", ge=0)
    """Rows with which the judge itself is tested; 0 for no audit."""

    @model_validator(mode="after")
    def _fits_together(self) -> Judge:
        if (self.server is None) == (self.base is None):
            raise ValueError("needs exactly one of server and base")
        if self.server is not None and self.kind in ("critic", "pairwise") and not self.send_images:
            raise ValueError(f"kind {self.kind} shows its server pictures; allow it with send_images: true")
        if self.rubric is not None and self.kind != "rubric":
            raise ValueError(f"rubric goes with kind: rubric, not with {self.kind}")
        known = {"medical": "original", "shr": "original", "critic": "first-number"}
        if self.parser not in ("sightline", known.get(self.kind)):
            raise ValueError(f"parser {self.parser} is not one of kind {self.kind}")
        return self


class Compare(Keys):
    """A question the study answers, stated beforehand."""

    model: str = key()
    """The model in question: `step`, `step.member` or `step.member@seed`."""
    against: str = key("base", "the untuned model")
    """The model it is compared with."""
    by: str | None = key(None, "the first metric of `evaluate`")
    """The metric that decides."""
    margin: float | None = key(None, "a difference is asked for", gt=0)
    """Ask instead whether `model` is no worse than `against` by more than this."""


class Hardware(Keys):
    """Defaults for every step."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = key("auto", "bf16 where the accelerator has it, else fp32")
    """Number format of the frozen weights and of matrix products."""
    memory_gib: Annotated[float, Field(gt=0)] | Literal["auto"] = key("auto", "what the accelerator has")
    """Memory that may be used per accelerator, in GiB; it has no effect on a CPU."""
    row_tokens: int | Literal["auto"] = key(
        "auto", "on an accelerator as many as fit; 1,024 on the CPU; more for a longer sample"
    )
    """Tokens per micro-batch."""


class Budget(Keys):
    """What the study may cost."""

    gpu_hours: float | None = key(None, "no limit", gt=0)
    """Hours of training and answering, times accelerators; the study stops cleanly at the limit and can go on later."""


class Track(Keys):
    """Where training curves go besides the study's own directory; numbers only, never pictures."""

    tensorboard: bool = key(False, "the report has the curves")
    """Write TensorBoard files into the study's `tensorboard/`."""
    wandb: str | None = key(None, "nothing leaves the machine")
    """Project at Weights & Biases; its key comes from the environment (`WANDB_API_KEY`)."""


class Study(Keys):
    """A research study: what is asked, of which models, on which data."""

    name: Name = key("study", "the study file's name")
    """Name of the study, and of its folder under `studies/`."""
    base: str = key()
    """The model that is tuned: a hub name, a folder, or `builtin:tiny`."""
    data: DataSets = key()
    """Data sets by name. A file or a single block is short for one set named `data`."""
    steps: dict[Name, Step] = key({}, "one `sft` on the only data set's train split")
    """What is made, by name; each takes `from` (a model) and `on` (data)."""
    models: dict[Name, OtherModel] = key({}, "none")
    """Models that this study did not make, asked the same questions."""
    evaluate: Evaluate = key(Evaluate(), "see below")
    """What every model is asked."""
    judges: dict[Name, Judge] = key({}, "none")
    """Models that score answers; each is a metric under its name."""
    compare: tuple[Compare, ...] = key((), "every model that a step made, against base")
    """The study's questions. Everything else in the report is exploratory."""
    hardware: Hardware = key(Hardware(), "see below")
    """Defaults that a step may override."""
    accept: dict[str, Reason] = key({}, "no fault is accepted")
    """Faults that `check` found and the study goes past, by name, with the reason that the report prints."""
    budget: Budget = key(Budget(), "no limit")
    """What the study may cost."""
    track: Track = key(Track(), "no tracker")
    """Trackers that get every step's numbers."""
    data_root: str = key(".", "the study file's folder")
    """Folder that relative sources start from; itself relative to `folder`."""
    smoke: dict[str, Any] = key({}, "nothing")
    """Keys that `--smoke` sets in addition to what it does by itself."""
    folder: Path = key(Path("."), "the study file's folder")
    """Folder that relative paths start from; written into a study's record so that it can be read from elsewhere."""
    notes: tuple[str, ...] = key((), "none")
    """Remarks the report prints, such as what `--smoke` replaced."""
