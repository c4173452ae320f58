"""Self-contained HTML pages: no script, no style and no figure from anywhere else."""

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
    return environment.get_template(template).render(**content)
