"""Self-contained HTML pages: no script, no style and no figure from anywhere else."""

import html
import re
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from steps.core.system.code import ROOT

TEMPLATES = ROOT / "steps/core/report/templates"


def render(template: str, **content: Any) -> str:
    """Fill a template; what comes from the data is escaped, in an html page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown
    return environment.get_template(template).render(**content)


def markdown(text: object) -> str:
    """Return a text from the data as Markdown shows it: no HTML, no table's column, no line of its own."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\|`*\[\]])", r"\\\1", plain)


def with_contents(page: str) -> str:
    """Fill a page's empty `<nav>` with links to its headings: every `<h2>` that has an id."""
    headings = re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', page, re.DOTALL)
    links = (f'<a href="#{place}">{re.sub("<.*?>", "", title).strip()}</a>' for place, title in headings)
    return page.replace("<nav></nav>", f"<nav>{' '.join(links)}</nav>", 1)
