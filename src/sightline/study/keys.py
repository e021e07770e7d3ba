"""How a block of the study file is declared: its keys, their defaults, and where each default comes from."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""A name that the user chooses; it becomes part of a file's name."""
MemberName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
"""A member's name; grid members carry their values, `alpha16-dropout0.05`."""
Names = Annotated[tuple[str, ...], BeforeValidator(_as_list, json_schema_input_type=str | list[str])]
"""One name, or a list."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say what a name that is not known was probably meant to be, or what there is."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"there is {', '.join(names)}" if names else "there is none"


class Keys(BaseModel):
    """How every block of a study file is read: frozen, unknown keys refused, docstrings as descriptions."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        serialize_by_alias=True,
        allow_inf_nan=False,
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, values: Any) -> Any:
        """Refuse an unknown key here, where its neighbours are known, and not in pydantic, where they are not."""
        if not isinstance(values, dict) or cls.model_config.get("extra") == "allow":
            return values
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for name in values:
            if name not in known:
                context = {"key": str(name), "hint": nearest(str(name), known)}
                raise PydanticCustomError("unknown_key", "{key} is not a key; {hint}", context)
        return values


def key(default: Any = ..., source: str = "", **constraints: Any) -> Any:
    """Declare a key of the study file.

    Args:
        default: its value when absent; `...` where it must be given.
        source: where the default comes from, for the reference table.
        constraints: pydantic's own (`ge`, `lt`, `alias`, ...).
    """
    return Field(default, json_schema_extra={"default_source": source} if source else None, **constraints)
