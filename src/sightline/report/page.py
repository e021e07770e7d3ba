"""What all pages of ours share: one HTML file, everything inline, nothing fetched, every text from the data escaped."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from sightline.report.wording import clean, shortened

if TYPE_CHECKING:
    from jinja2 import Environment


def package_text(name: str) -> str:
    """A text file that lies beside this module."""
    return (resources.files("sightline.report") / name).read_text(encoding="utf-8")


def render_page(
    template: str,
    *,
    title: str,
    styles: Sequence[str] = (),
    script: str = "",
    functions: Mapping[str, Callable[..., Any]] | None = None,
    **values: Any,
) -> str:
    """Write a page.

    Args:
        template: file beside this module; it extends frame.html.j2.
        title: of the page, as its heading too.
        styles: style sheets beside this module, in addition to those of every page.
        script: its script beside this module; "" for none, and then none may run.
        functions: filters that the template uses besides `shortened`.
        values: what the template shows.

    Returns:
        One HTML document that needs no other file.
    """
    environment = _environment(tuple((functions or {}).items()))
    style = "".join(map(package_text, ("style.css", *styles, "figures.css")))
    code = package_text(script) if script else ""
    return environment.get_template(template).render(
        title=title,
        style=Markup(style),
        script=Markup(code),
        style_source=_hash_source(style),
        script_source=_hash_source(code) if script else "none",
        **values,
    )


@functools.cache  # which keeps what it has compiled
def _environment(functions: tuple[tuple[str, Callable[..., Any]], ...]) -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(package_text),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shortened=shortened, **dict(functions))
    return environment


def _shown(value: Any) -> Any:
    """Every value on its way into a page passes here, so that no text from the data is forgotten."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _hash_source(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
