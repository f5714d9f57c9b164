// The figures of the charts as a table, and as a file.
import { saveCsv } from "../csv";
import { h } from "../html";
import { count, percent } from "../language";
import { addressOf } from "../router";
import { nameOfGroup, nameOfValue } from "./panels";
import { interval, recordingsOf, segmentsOf } from "./say";
import type { Row, Trends } from "./types";
import { t } from "./words";

const SHOWN = 200; // rows, until the reader asks for all
const COLUMNS = ["period", "start", "group", "value", "share", "low", "high", "segments", "of_segments", "recordings", "of_recordings", "where"] as const;

export function table(trends: Trends, rows: readonly Row[], title: string): HTMLElement {
  const { by, group, of } = trends;
  const line = (row: Row): HTMLElement =>
    h(
      "tr",
      {},
      by === null ? null : h("td", {}, row.period),
      group === null ? null : h("td", {}, nameOfGroup(group, row.group)),
      h("th", { scope: "row" }, nameOfValue(of, row.value)),
      h("td", { class: "number" }, percent(row.share)),
      h("td", { class: "number" }, interval(row)),
      h("td", { class: "number" }, segmentsOf(row)),
      h("td", { class: "number" }, h("a", { href: addressOf("calls", { search: { where: row.where } }) }, recordingsOf(row))),
    );
  const body = h("tbody", {}, ...rows.slice(0, SHOWN).map(line));
  const head = (name: "period" | "value" | "share" | "interval" | "segments" | "calls", number: boolean): HTMLElement => h("th", { scope: "col", class: number ? "number" : null }, t(`trends.column.${name}`));
  const more = h(
    "button",
    {
      type: "button",
      hidden: rows.length <= SHOWN,
      click: () => {
        body.append(...rows.slice(SHOWN).map(line));
        more.remove();
      },
    },
    t("trends.table.all", { n: count(rows.length) }),
  );
  return h(
    "section",
    { class: "card figures", "aria-labelledby": "trends-table" },
    h(
      "header",
      { class: "line" },
      h("h2", { id: "trends-table", class: "name" }, t("trends.table")),
      h("button", { type: "button", click: () => save(rows) }, t("csv.save")),
    ),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "group", "aria-label": title },
      h(
        "table",
        {},
        h("caption", { class: "unseen" }, title),
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            by === null ? null : head("period", false),
            group === null ? null : h("th", { scope: "col" }, group),
            head("value", false),
            head("share", true),
            head("interval", true),
            head("segments", true),
            head("calls", true),
          ),
        ),
        body,
      ),
    ),
    more,
  );
}

function save(rows: readonly Row[]): void {
  saveCsv("trends.csv", [COLUMNS, ...rows.map((row) => COLUMNS.map((name) => row[name]))]);
}
