"""What all dashboards have: variables, links to each other and to the runbooks, the alerts' name in the link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Panel,
    VariableModel,
    VariableRefresh,
    VariableSort,
)

from scripts.monitoring.panels import DATASOURCE

RUNBOOKS = "https://github.com/baldistill/baldistill/tree/main/docs/runbooks"
_TAG = "baldistill"


def titled(uid: str, *, title: str, about: str, variables: Sequence[Builder[VariableModel]]) -> dashboard.Dashboard:
    """Begin a dashboard. uid: what alerts link to."""
    started = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([_TAG])
        .refresh("30s")
        .time("now-6h", "now")
        .timezone("utc")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .link(
            dashboard.DashboardLink("BalDistill")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(as_dropdown=True)
            .keep_time(keep_time=True)
        )
        .link(
            dashboard.DashboardLink("Runbooks")
            .type(DashboardLinkType.LINK)
            .url(RUNBOOKS)
            .target_blank(target_blank=True)
        )
    )
    for variable in variables:
        started.with_variable(variable)
    return started


def sections(started: dashboard.Dashboard, content: Mapping[str, Sequence[Builder[Panel]]]) -> dashboard.Dashboard:
    """Add rows of panels, by the row's title."""
    for title, panels in content.items():
        started.with_row(dashboard.Row(title))
        for panel in panels:
            started.with_panel(panel)
    return started


def choice(name: str, *, label: str, metric: str, where: str = "") -> Builder[VariableModel]:
    """Return a variable over the values that a label has. where: matchers, e.g. `tenant=~"$tenant"`."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query({"query": f"label_values({metric}{{{where}}}, {name})", "refId": name})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
    )
