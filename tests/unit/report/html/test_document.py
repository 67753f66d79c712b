"""The page as a whole: well-formed, self-contained, unbreakable by any name, and its numbers are the report's."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from continuum_tasks.findings import Trouble, critical
from continuum_tasks.report.html.capture import share
from continuum_tasks.report.html.document import BEGIN, html_page
from continuum_tasks.report.plan.attention import attention
from continuum_tasks.report.plan.report import Period, PeriodReport, build_report
from tests.unit.report.plan.reports import WEEK, captured, drill, failed, report, rows, verdict
from tests.unit.retention.plan.rows import NOW, ago

HOSTILE = "<script>alert(1)</script>\"'&]]>--><img src=x onerror=alert(1)>\x00\x1b[31m\ud800\u202e"
CAPTURED = report(captures=(captured(),))
FULL = replace(CAPTURED, attention=attention(CAPTURED))
EMPTY = report(databases=(), backups=(), expired=(), failed=(), verdicts=(), drills=(), decisions=(), storages=())


class Page(HTMLParser):
    """A page as a browser's tokenizer sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def tree(text: str) -> ElementTree.Element:
    assert text.startswith(BEGIN)
    return ElementTree.fromstring(text.removeprefix(BEGIN))


def made(found: PeriodReport) -> str:
    return html_page(found, version="1.2.3")


@pytest.mark.parametrize("found", [FULL, EMPTY], ids=["full", "empty"])
def test_the_page_is_well_formed_and_every_element_is_closed(found: PeriodReport) -> None:
    tree(made(found))
    assert Page(made(found)).open == []


@pytest.mark.parametrize("found", [FULL, EMPTY], ids=["full", "empty"])
def test_the_page_loads_nothing_and_runs_nothing(found: PeriodReport) -> None:
    page = Page(made(found))
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "use", "image"} & {
        t for t, _ in page.tags
    }
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "xlink:href", "style")]
    style = re.search(r"<style>(.*?)</style>", made(found), re.DOTALL)
    assert style is not None and "url(" not in style[1] and "@import" not in style[1]
    assert "default-src 'none'" in str([attributes for tag, attributes in page.tags if tag == "meta"])


def test_ids_are_unique_and_what_labels_something_is_there() -> None:
    page = Page(made(FULL))
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert max(ids.values()) == 1
    labels = {name for _, attributes in page.tags for name in (attributes.get("aria-labelledby") or "").split()}
    assert labels and labels <= set(ids)


def test_every_chart_is_named_and_described_for_who_cannot_see_it() -> None:
    charts = tree(made(FULL)).findall(".//svg")
    assert len(charts) == 12  # counts, 3 ages of databases less none, cover and lag, drills, 3 proportions, 2 levels
    for chart in charts:
        assert chart.get("role") == "img"
        assert (chart.findtext("title") or "").strip() and (chart.findtext("desc") or "").strip()


def test_charts_stay_within_their_frame_and_no_size_is_negative() -> None:
    for chart in tree(made(FULL)).findall(".//svg"):
        _, _, width, height = (float(number) for number in (chart.get("viewBox") or "").split())
        for box in chart.iter("rect"):
            x, y, w, h = (float(box.get(name) or 0) for name in ("x", "y", "width", "height"))
            assert w >= 0 and h >= 0 and x >= 0 and y >= 0
            assert x + w <= width + 0.2 and y + h <= height + 0.2


def test_the_bars_of_the_first_chart_stand_for_the_counts() -> None:
    chart = tree(made(FULL)).findall(".//svg")[0]
    groups = {group.findtext("title"): [box.get("class") for box in group.findall("rect")] for group in chart.findall("g")}
    busy = [bar for bar in FULL.bars if bar.n_made + bar.n_failed]
    assert len(groups) == len(busy)
    last = groups[next(title for title in groups if title and "2 made, 1 of them suspect, 1 failed" in title)]
    assert last == ["good", "warn", "bad"]


def test_the_page_says_the_report_s_numbers() -> None:
    words = " ".join(Page(made(FULL)).words)
    for text in (
        "6 backups made, 1 failed",
        "1 full, 4 incremental",
        "worst 4 d, now 2 h, target 3 d",
        "2 of 2 chains with a verified backup",
        "1 drill in this period, 0 failed",
        "anomaly: 61 % of the pages changed",
        "older than every rule",
        "Made by continuum 1.2.3 on h1",
        "31.94 % of the time since 2026-11-20 12:00 UTC is covered, 2 d 1 h were not",
        "p50 0.6 s, p95 1.1 s in the median, p95 at worst 1.2 s",
        "the log was restarted",
    ):
        assert text in words, text


def test_a_report_without_captures_has_no_section_on_them() -> None:
    assert 'id="capture"' in made(FULL)
    assert 'id="capture"' not in made(EMPTY)


def test_a_capture_whose_lag_was_never_measured_and_that_missed_nothing_is_told_in_a_line() -> None:
    every_minute = tuple((ago(minutes=m), 0.0) for m in range(100, 0, -1))
    found = report(captures=(captured(down=every_minute, holes=(), lags_p50=(), lags_p95=()),))
    page = Page(made(found))

    words = " ".join(page.words)
    assert "100 % of the time since 2026-11-23 10:20 UTC is covered; 0 holes" in words
    assert "p95 at worst" not in words


@pytest.mark.parametrize(("value", "words"), [(1.0, "100 %"), (0.99999, "99.99 %"), (0.9, "90.00 %"), (0.0, "0.00 %")])
def test_a_share_is_told_as_whole_only_when_nothing_is_missing(value: float, words: str) -> None:
    assert share(value) == words


def test_an_empty_report_says_so_in_every_section() -> None:
    words = " ".join(Page(made(EMPTY)).words)
    for text in ("Nothing needs attention", "0 backups made", "No drill has been made", "Nothing expired", "None of the"):
        assert text in words, text


def test_attention_comes_first_with_its_hints() -> None:
    page = made(replace(EMPTY, attention=(critical("storage s3", "full in 2 d", "add capacity"),)))
    words = [word.strip() for word in Page(page).words if word.strip()]
    at = words.index("storage s3")
    assert words[at - 2 : at + 3] == [
        "1 thing needs attention, 1 critical",
        "critical",
        "storage s3",
        ": full in 2 d",
        "add capacity",
    ]


def hostile(text: str) -> PeriodReport:
    given = rows()
    backups = tuple(
        replace(b, database=text, storage=text, suspect_reasons=(text,) if b.suspect_reasons else ()) for b in given.backups
    )
    poisoned = replace(
        given,
        databases=(replace(given.databases[0], name=text),),
        backups=backups,
        expired=tuple(replace(run, database=text, strategy=text) for run in given.expired),
        failed=(replace(failed(at=ago(hours=1)), kind=text, database=text, error=text, message=text, hint=text),),
        verdicts=tuple(
            replace(v, database=text, attestation=replace(v.attestation, findings=(text,)))
            for v in (verdict(1, passed=False, at=ago(hours=3)),)
        ),
        drills=(replace(drill(1, at=ago(hours=5), seconds=3, passed=False), findings=(text,)),),
        decisions=tuple(replace(d, action=text, subject=text, outcome=text, detail=text) for d in given.decisions),
        storages=tuple(replace(s, storage=text, trouble=Trouble(message=text, hint=text)) for s in given.storages),
    )
    found = build_report(poisoned, WEEK, host=text)
    return replace(found, attention=attention(found))


def test_hostile_names_stay_text() -> None:
    page = made(hostile(HOSTILE))
    tree(page)
    page.encode("utf-8")
    parsed = Page(page)
    assert not {"script", "img"} & {tag for tag, _ in parsed.tags}
    assert "<script>alert(1)</script>" in " ".join(parsed.words)
    assert not set("\x00\x1b\ud800\u202e") & set(page)


@settings(deadline=None, max_examples=20)
@given(st.text(max_size=60))
def test_no_text_whatever_adds_or_breaks_an_element(text: str) -> None:
    plain, odd = Page(made(hostile("x"))), Page(made(hostile(text)))
    assert odd.open == []
    tree(made(hostile(text)))
    # An empty reason is the only text that takes something away; nothing adds anything.
    assert {tag for tag, _ in odd.tags} <= {tag for tag, _ in plain.tags}
    assert len(odd.tags) <= len(plain.tags)


def test_long_lists_are_cut_and_say_how_many_are_left() -> None:
    many = tuple(failed(at=ago(hours=1), message=f"no {n}") for n in range(40))
    words = " ".join(Page(made(report(failed=many))).words)
    assert "and 28 more" in words
    same = tuple(failed(at=ago(hours=n), message="locked") for n in range(1, 41))
    assert "40 " in words and "and 28 more" not in " ".join(Page(made(report(failed=same))).words)


@pytest.mark.parametrize(
    ("later", "text"), [(10.4, "earlier half: steady"), (15, "earlier half: 50 % slower"), (8, "earlier half: 20 % faster")]
)
def test_the_trend_of_drills_is_put_in_words(later: float, text: str) -> None:
    drills = tuple(drill(n, at=ago(days=20 - n), seconds=10 if n < 4 else later) for n in range(8))
    assert text in " ".join(Page(made(report(drills=drills))).words)


def test_a_storage_that_fills_says_when_and_a_shrinking_one_has_a_minus_sign() -> None:
    local, s3 = FULL.storages
    found = replace(FULL, storages=(replace(local, fills_at=ago(days=-40)), replace(s3, growth_bytes_per_day=-2048.0)))
    words = " ".join(Page(made(found)).words)
    assert "full about 2027-01-02" in words and "growing −2.0 KiB a day" in words  # noqa: RUF001


@pytest.mark.parametrize("name", ["day", "week", "month"])
def test_every_period_makes_a_page(name: str) -> None:
    found = build_report(rows(), Period.ending(NOW + timedelta(minutes=17), name=name), host="h1")
    tree(made(found))
    assert f"The {name} from " in " ".join(Page(made(found)).words)
