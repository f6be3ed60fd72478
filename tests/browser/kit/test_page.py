"""The page on which the kit is tested: what stands for anywidget behaves as it does."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.browser

LISTEN = """
  const heard = [];
  page.model = new page.FakeModel({ index: 0, count: 3 });
  const listener = () => heard.push(page.model.get("index"));
  page.model.on("change:index change:count", listener);
  page.model.set("index", 0);
  page.model.set("index", 1);
  page.model.receive({ index: 2, count: 4 });
  page.model.off("change:index change:count", listener);
  page.model.set("index", 5);
  return heard;
"""


def test_listeners_hear_of_changes_only_and_after_all_of_them(kit: Any) -> None:
    kit.open("dom.js")
    assert kit.run(LISTEN) == [1, 2, 2]


def test_bytes_arrive_as_anywidget_sends_them(kit: Any) -> None:
    kit.open("dom.js")
    script = "return argument.chunks.map((chunk) => [chunk.constructor.name, chunk.getUint8(1)])"
    assert kit.run(script, {"chunks": [b"ab", b"cd"]}) == [["DataView", 98], ["DataView", 100]]
