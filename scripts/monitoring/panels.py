"""Panels as we draw them: one look for all dashboards, a unit and a sentence for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import prometheus as queries
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.common import (
    GraphGradientMode,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    Panel,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

DATASOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
# What the builders of a row of panels return.
Panels: TypeAlias = Sequence[Builder[Panel]]
_HEIGHT = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One expression. legend: Grafana's template of labels, e.g. `{{tenant}}`.   unit: of its column, if not its table's."""

    expr: str
    legend: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What every panel has. unit: Grafana's id, e.g. `currencyUSD`.   span: of 24 columns.   about: a sentence for the (i)."""

    title: str
    about: str
    unit: str
    span: int = 12


def lines(described: Described, *shown: Query, stacked: bool = False, logarithmic: bool = False) -> Builder[Panel]:
    """Draw values over time. logarithmic: for values that differ by orders of magnitude."""
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM)
    panel = (
        timeseries.Panel()
        .title(described.title)
        .description(described.about)
        .unit(described.unit)
        .datasource(DATASOURCE)
        .height(_HEIGHT)
        .span(described.span)
        .fill_opacity(25 if stacked else 5)
        .gradient_mode(GraphGradientMode.NONE)
        .legend(legend.calcs(["lastNotNull", "max"]).show_legend(show_legend=True))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if not logarithmic:
        panel.min(0)
    else:
        panel.scale_distribution(common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10))
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for letter, query in zip("ABCDEFGH", shown, strict=False):
        panel.with_target(_over_time(query, letter))
    return panel


def number(
    described: Described, query: Query, *, orange_from: float | None = None, red_from: float | None = None
) -> Builder[Panel]:
    """Show one number, or one per series."""
    steps = [(None, "green"), (orange_from, "orange"), (red_from, "red")]
    thresholds = [Threshold(value, colour) for value, colour in steps if value is not None or colour == "green"]
    return (
        stat.Panel()
        .title(described.title)
        .description(described.about)
        .unit(described.unit)
        .datasource(DATASOURCE)
        .height(4)
        .span(described.span)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_now(query, "A"))
    )


def states(described: Described, query: Query) -> Builder[Panel]:
    """Draw which value held when, a band a series."""
    return (
        statetimeline.Panel()
        .title(described.title)
        .description(described.about)
        .unit(described.unit)
        .datasource(DATASOURCE)
        .height(_HEIGHT)
        .span(described.span)
        .merge_values(merge_values=True)
        .with_target(_over_time(query, "A"))
    )


def rows(described: Described, *shown: Query, by: Sequence[str]) -> Builder[Panel]:
    """Show a table: a row for each combination of the labels `by`, a column for each query (named by its legend)."""
    panel = _table(described)
    names = {}
    for letter, query in zip("ABCDEFGH", shown, strict=False):
        panel.with_target(_as_table(query, letter))
        names[f"Value #{letter}"] = query.legend
        if query.unit:
            panel.override_by_name(query.legend, [DynamicConfigValue(id_val="unit", value=query.unit)])
    hidden = {"Time": True}
    return panel.with_transformation(DataTransformerConfig(id_val="merge", options={})).with_transformation(
        DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": hidden,
                "renameByName": names if len(shown) > 1 else {"Value": shown[0].legend},
                "indexByName": {name: place for place, name in enumerate(by)},
            },
        )
    )


def matrix(described: Described, query: Query, *, row: str, column: str) -> Builder[Panel]:
    """Show a heat map of one value: a row for each `row` label, a column for each `column` label."""
    return (
        _table(described)
        .with_target(_as_table(query, "A"))
        .with_transformation(
            DataTransformerConfig(
                id_val="groupingToMatrix", options={"rowField": row, "columnField": column, "valueField": "Value"}
            )
        )
        .override_by_field_type("number", [_coloured()])
    )


def _coloured() -> DynamicConfigValue:
    return DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-background"})


def _table(described: Described) -> table.Panel:
    return (
        table.Panel()
        .title(described.title)
        .description(described.about)
        .unit(described.unit)
        .datasource(DATASOURCE)
        .height(_HEIGHT + 2)
        .span(described.span)
    )


def _over_time(query: Query, letter: str) -> queries.Dataquery:
    return queries.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).range()


def _now(query: Query, letter: str) -> queries.Dataquery:
    return queries.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).instant()


def _as_table(query: Query, letter: str) -> queries.Dataquery:
    return _now(query, letter).format(PromQueryFormat.TABLE)
