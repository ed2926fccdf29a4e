"""The page: one HTML file that carries its data, its script and the plotting library.

Every value is escaped by jinja2. A content-security policy lets only the scripts run that this
module wrote (by hash) and forbids every request, so neither a crafted name nor the library can
load or send anything.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import numbers
from reports.experts import section
from reports.findings import certainty, costs
from reports.findings.certified import HEADER
from reports.findings.points import configuration, device_label, weights_label
from reports.pages import announcements, flash
from reports.pages.accuracy import html_section
from reports.pages.glossary import TERMS
from reports.pages.page_counts import counts_document, packed
from reports.pages.page_data import results_document, script_json
from reports.pages.palette import looks
from reports.pages.summary import (
    caveats,
    certain_rows,
    failures,
    flatten,
    headlines,
    measured_on,
    policy_table,
    reads_of,
)
from reports.reading.run import Run
from reports.reading.timeline import MOST
from reports.results import COLUMNS, EXTRA_COLUMNS, OPTIONAL_COLUMNS, Column

_SCRIPTS = (
    *("data.js", "price.js", "whatif.js", "charts.js", "memory.js", "record.js"),
    *("detail.js", "table.js", "main.js"),
)
_ADDRESS = re.compile(r"https?://(?!www\.w3\.org/)")


def render(run: Run) -> str:
    """`report.html` as text."""
    scripts = {
        "early": _inline(_template_text("theme.js")),
        "library": plotting_library(),
        "script": _own_script(),
    }
    template = _environment().get_template("report.html.j2")
    return template.render(
        run=run,
        accuracy=html_section(run),
        flash=flash.html_section(run),
        stopwatch=flash.stopwatch_section(run),
        announced=announcements.html_section(run),
        routed=section.html_section(run),
        looks=looks(p.series for p in run.points),
        headlines=headlines(run),
        certain=certain_rows(run),
        certain_header=HEADER,
        caveats=caveats(run),
        measured_on=measured_on(run),
        policy_table=policy_table(run),
        failures=failures(run.points),
        provenance=flatten({k: v for k, v in run.provenance.items() if k != "notes"}),
        terms=TERMS,
        most_tasks=MOST,
        columns=(*COLUMNS, *EXTRA_COLUMNS, *_optional(run)),
        style=Markup(_template_text("style.css")),
        data=Markup(script_json(results_document(run))),
        counts=Markup(packed(counts_document(run))),
        policy=_security_policy(scripts),
        **{name: Markup(source) for name, source in scripts.items()},
    )


@cache
def plotting_library() -> str:
    """plotly.js with every address in it made inert, so that it cannot ask for anything."""
    from plotly.offline import get_plotlyjs

    return _inline(_ADDRESS.sub("about:blank#", get_plotlyjs()))


def _optional(run: Run) -> list[Column]:
    """The optional columns that the run's table has."""
    names = run.rows[0] if run.rows else ()
    return [column for column in OPTIONAL_COLUMNS if column.name in names]


def _own_script() -> str:
    return _inline("\n".join(_template_text(name) for name in _SCRIPTS))


def _template_text(name: str) -> str:
    return (files("reports") / "templates" / name).read_text(encoding="utf-8")


def _inline(source: str) -> str:
    """Script text that cannot end its own element."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _security_policy(scripts: Mapping[str, str]) -> str:
    hashes = " ".join(f"'sha256-{_sha256(source)}'" for source in scripts.values())
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'"
    )


def _sha256(source: str) -> str:
    # A browser hashes the element's text after it has normalised line ends.
    text = source.replace("\r\n", "\n").replace("\r", "\n")
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _filters()
    return environment


def _filters() -> dict[str, Any]:
    names = ("fixed", "figure", "percent", "megabytes", "times", "signed", "duration")
    return {
        **{name: getattr(numbers, name) for name in names},
        "configuration": configuration,
        "device_label": device_label,
        "weights_label": weights_label,
        "interval": costs.interval,
        "cost": costs.cost,
        "cost_name": costs.cost_name,
        "written": costs.written,
        "kl": costs.kl_text,
        "flips": costs.flips_text,
        "sure": certainty.sentences,
        "reads": reads_of,
    }
