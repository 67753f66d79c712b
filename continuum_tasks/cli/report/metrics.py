"""continuum backup metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from itertools import groupby

import click

from continuum_tasks.cli.frame import output, parameters
from continuum_tasks.cli.frame.context import cli_context, open_runtime_of_command, shared_options
from continuum_tasks.cli.frame.parameters import time_option
from continuum_tasks.cli.frame.table import TableColumn, print_table
from continuum_tasks.errors import UsageError
from continuum_tasks.health import recovery_points
from continuum_tasks.host.metrics import EACH_MINUTE, NAMES, Sample
from continuum_tasks.report.plan.trend import Summary, sparkline, summarise

DEFAULT_DAYS = 30
TREND_WIDTH = 16

Series = dict[tuple[str, str], list[Sample]]


@click.command("metrics")
@click.argument("name", metavar="[NAME]", required=False)
@time_option("--since", f"Only measurements since then [default: {DEFAULT_DAYS}d].")
@click.option("--prometheus", is_flag=True, help="The newest value of each series, as Prometheus reads it.")
@shared_options
def metrics(name: str | None, since: datetime | None, prometheus: bool) -> None:
    """Show what runs on this host took and moved: last, minimum, median and maximum value, and the trend, oldest first.

    NAME is one of those the command shows without it, such as backup_duration_seconds.

    \b
    Example:
      continuum backup metrics backup_duration_seconds --since 7d
    """
    if name is not None and name not in NAMES:
        close = get_close_matches(name[:200], NAMES, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(NAMES)}"
        raise UsageError(f"metric {parameters.quoted_word(name)} is not measured", hint=hint)
    if prometheus and cli_context().as_json:
        raise UsageError("--prometheus and --format json exclude each other", hint="use only one of them")
    names = [name] if name is not None else list(NAMES)
    with open_runtime_of_command() as runtime:
        begin = since or runtime.site.clock.now() - timedelta(days=DEFAULT_DAYS)
        samples = [sample for each in names for sample in runtime.site.metrics.series(each, since=begin)]
        if prometheus:
            kept = [sample for sample in samples if sample.name not in EACH_MINUTE]
            samples = kept + [
                sample for sample in recovery_points.present(runtime.config, site=runtime.site) if sample.name in names
            ]
        found = _series(samples)
    if prometheus:
        output.out(exposition(found))
    elif cli_context().as_json:
        output.print_document([_fields(samples) for samples in found.values()])
    elif not found:
        output.print_text(f"nothing measured since {output.moment(begin)} UTC")
    else:
        _show(found)


def exposition(found: Series) -> str:
    """Return the newest value of each series in Prometheus' text format, and beside it when that was measured.

    A scrape gives a time of its own, which says nothing of how old a value is.
    """
    lines = list[str]()
    for name, group in groupby(found.items(), key=lambda item: item[0][0]):
        newest = [samples[-1] for _, samples in group]
        at = f"{name}_timestamp_seconds"
        lines += [f"# HELP {name} {NAMES[name]}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_braced(one.labels)} {one.value!r}" for one in newest]
        lines += [f"# HELP {at} when {name} was measured, in seconds since 1970", f"# TYPE {at} gauge"]
        lines += [f"{at}{_braced(one.labels)} {one.at.timestamp():.3f}" for one in newest]
    return "\n".join(lines)


def _series(samples: Sequence[Sample]) -> Series:
    """Sort samples by name and labels; names keep the order in which they are declared."""
    order = list(NAMES)
    found: Series = {}
    for sample in sorted(samples, key=lambda s: (order.index(s.name), _labels(s.labels), s.at)):
        found.setdefault((sample.name, _labels(sample.labels)), []).append(sample)
    return found


def _labels(labels: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))


def _braced(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in sorted(labels.items())) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _fields(samples: Sequence[Sample]) -> dict[str, object]:
    summary = summarise([sample.value for sample in samples])
    return {
        "name": samples[0].name,
        "labels": dict(samples[0].labels),
        "n": summary.n,
        "last": summary.last,
        "min": summary.low,
        "median": summary.median,
        "max": summary.high,
        "samples": [{"at": sample.at.isoformat(), "value": sample.value} for sample in samples],
    }


def _show(found: Series) -> None:
    """Print one table per metric; a row is named by the values of its labels."""
    columns = [TableColumn(title="of", folds=True)]
    columns += [
        *(TableColumn(title=title, right=True) for title in ("n", "last", "min", "median", "max")),
        TableColumn(title="trend"),
    ]
    for number, (name, group) in enumerate(groupby(found.items(), key=lambda item: item[0][0])):
        output.print_text(f"{chr(10) if number else ''}{name}: {NAMES[name]}")
        print_table(columns, [_row(name, samples) for _, samples in group])


def _row(name: str, samples: Sequence[Sample]) -> list[str]:
    values = [sample.value for sample in samples]
    of = " ".join(value for _, value in sorted(samples[0].labels.items())) or "this host"
    return [of, *_numbers(name, summarise(values)), sparkline(values, width=TREND_WIDTH)]


def _numbers(name: str, summary: Summary) -> list[str]:
    return [str(summary.n), *(_value(name, v) for v in (summary.last, summary.low, summary.median, summary.high))]


def _value(name: str, value: float) -> str:
    if name.endswith("_seconds"):
        return output.duration(value)
    return output.size(value) if name.endswith("_bytes") else f"{value:.3g}"
