"""A report as Markdown, for a wiki or a pull request."""

from __future__ import annotations

from jinja2 import Environment, StrictUndefined

from services.cli.reporting.model import NO_QUALITY_CLAIMS, RunReport
from services.cli.reporting.tables import header_lines, report_tables

_TEMPLATE = """\
# {{ header[0] }}

{% for line in header[1:] %}
{{ line }}.

{% endfor %}
{% for table in tables %}
## {{ table.title }}

| {{ table.headings | join(' | ') }} |
|---|{% for _ in table.headings[1:] %}---:|{% endfor %}

{% for row in table.rows %}
| {{ row | map('replace', '|', '\\\\|') | join(' | ') }} |
{% endfor %}

{% if table.caption %}
{{ table.caption }}

{% endif %}
{% endfor %}
{% if no_claim %}
{{ no_claim }}
{% endif %}
"""

# Markdown, not HTML: escaping would show `&lt;none&gt;`.
_ENVIRONMENT = Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True)  # noqa: S701


def report_markdown(report: RunReport) -> str:
    """Return the report as Markdown."""
    return _ENVIRONMENT.from_string(_TEMPLATE).render(
        header=list(header_lines(report)),
        tables=report_tables(report),
        no_claim="" if report.claims_quality else NO_QUALITY_CLAIMS[report.teacher],
    )
