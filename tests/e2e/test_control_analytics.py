"""Mission Control's analytics on a running stack: charts with their SQL and their rows, and the monthly statement."""

from __future__ import annotations

import csv
import io
import re
from html import unescape

import pytest
from starlette.testclient import TestClient

from chimera.control.analytics import CHARTS
from tests.e2e.house import House
from tests.e2e.pages import TENANT, Told, browser, shown


def test_each_chart_shows_the_sql_that_made_it_and_an_analyst_who_asks_it_is_answered_the_same(
    house: House, pages: TestClient, told: Told
) -> None:
    house.until_projected()
    vic = browser(pages, "vic")
    page = unescape(shown(vic, "/analytics", days="7"))
    statements = re.findall(r'<pre tabindex="0">(SELECT.*?)</pre>', page, re.DOTALL)
    assert len(statements) == len(CHARTS)
    for name, statement in zip(CHARTS, statements, strict=True):
        assert TENANT in statement, name
        mine = list(csv.DictReader(io.StringIO(shown(vic, f"/analytics/{name}.csv", days="7"))))
        theirs = house.done("sql", "-c", statement)
        assert len(mine) == len(theirs["rows"] if isinstance(theirs, dict) else theirs), name
    assert "override rate" in page


def test_one_tenant_of_several_may_be_chosen_and_a_foreign_one_has_no_rows(pages: TestClient, told: Told) -> None:
    ada, out = browser(pages, "ada"), browser(pages, "out")
    decided = list(csv.DictReader(io.StringIO(shown(ada, "/analytics/override_rate.csv", tenant=TENANT))))
    assert sum(int(row["decisions"]) for row in decided) >= 2
    assert list(csv.DictReader(io.StringIO(shown(out, "/analytics/override_rate.csv", tenant=TENANT)))) == []
    assert ada.get("/analytics/none-such.csv").status_code == 404


def test_the_monthly_statement_counts_what_the_tenant_published_and_who_decided(
    house: House, pages: TestClient, told: Told
) -> None:
    house.until_projected()
    vic = browser(pages, "vic")
    page = unescape(shown(vic, "/statement", tenant=TENANT))
    assert f"Statement of {TENANT}" in page
    ((month, posts), *_) = house.sql(  # what was published before midnight may be the last month's
        "SELECT to_char(published_at AT TIME ZONE 'UTC', 'YYYY-MM'), count(*) FROM analytics_v1.posts WHERE tenant = %s GROUP BY 1"
        " ORDER BY 1",
        TENANT,
    )
    rows = list(csv.DictReader(io.StringIO(shown(vic, "/statement.csv", tenant=TENANT, month=month))))
    published = [row for row in rows if row["section"] == "Published"]
    assert sum(int(row["count"]) for row in published) == posts > 0
    assert {row["month"] for row in rows} == {month}
    assert {"kim approved", "kim rejected"} <= {row["what"] for row in rows} | {
        row["what"].replace("operator", "kim") for row in rows
    }
    empty = unescape(shown(vic, "/statement", tenant=TENANT, month="2020-01"))
    assert empty.count(">None.<") == 6


@pytest.mark.parametrize(("asked", "status"), [({"tenant": TENANT}, 403), ({"month": "2026-13"}, 404), ({"month": "soon"}, 404)])
def test_a_statement_of_another_tenant_or_of_no_month_is_refused(
    pages: TestClient, told: Told, asked: dict[str, str], status: int
) -> None:
    assert browser(pages, "out").get("/statement", params=asked).status_code == status
