// What is counted, by what, and among which segments.
import type { Holdings } from "../collection";
import { h } from "../html";
import { KINDS, PERIODS, type Query } from "./query";
import type { Facet } from "./types";
import { t } from "./words";

/** @param asked called with what the reader asks for now. */
export function controls({ filters }: Holdings, maps: readonly string[], query: Query, wrong: HTMLElement, asked: (query: Query) => void): HTMLElement {
  const choice = <T extends string>(name: string, legend: string, values: readonly T[], chosen: T, say: (value: T) => string, change: (value: T) => void): HTMLElement =>
    h(
      "fieldset",
      { class: "choice" },
      h("legend", {}, legend),
      ...values.map((value) => h("label", {}, h("input", { type: "radio", name, value, checked: value === chosen, change: () => change(value) }), h("span", {}, say(value)))),
    );
  const select = (name: string, said: string, values: readonly (readonly [string, string])[], chosen: string, change: (value: string) => void): HTMLElement => {
    const known = values.some(([value]) => value === chosen) ? values : [...values, [chosen, chosen] as const];
    const field = h("select", { name, change: () => change(field.value) }, ...known.map(([value, called]) => h("option", { value, selected: value === chosen }, called)));
    return h("label", {}, h("span", {}, said), field);
  };
  // a column of the metadata that is called like a field of the catalog is reached through "meta."
  const keys = Object.keys(filters.metadata).map((key): [string, string] => [filters.fields.includes(key) ? `meta.${key}` : key, key]);
  const groups: [string, string][] = [["", t("trends.group.none")], ...keys, ["role", t("trends.group.role")], ["channel", t("trends.group.channel")]];
  const where = h("textarea", { name: "where", rows: 2, spellcheck: "false", autocapitalize: "off", "aria-describedby": wrong.id, placeholder: 'queue = "billing" and date >= 2026-01-01' });
  where.value = query.where;
  const left = filters.left_out;
  return h(
    "div",
    { class: "controls" },
    h(
      "div",
      { class: "row" },
      choice("of", t("trends.of.legend"), KINDS, query.of, (of) => t(`trends.of.${of}`), (of) => asked({ ...query, of })),
      choice("by", t("trends.by.legend"), PERIODS, query.by, (by) => t(`trends.by.${by}`), (by) => asked({ ...query, by })),
      select("group", t("trends.group"), groups, query.group, (group) => asked({ ...query, group })),
      query.of === "cluster" && maps.length > 1 ? select("map", t("trends.map"), maps.map((each) => [each, each] as const), query.map || maps[0]!, (map) => asked({ ...query, map })) : null,
      query.group
        ? choice("panels", t("trends.panels"), ["group", "value"] as const, query.panels, (facet: Facet) => (facet === "group" ? groups.find(([key]) => key === query.group)?.[1] ?? query.group : t(`trends.panels.${query.of}`)), (panels) => asked({ ...query, panels }))
        : null,
    ),
    left.length ? h("p", { class: "note" }, t("trends.left", { keys: left.join(", ") })) : null,
    h(
      "details",
      { open: Boolean(query.where) },
      h("summary", {}, t("trends.where")),
      h(
        "form",
        {
          submit: (event) => {
            event.preventDefault();
            asked({ ...query, where: where.value.trim() });
          },
        },
        h("label", {}, h("span", {}, t("trends.where.how")), where),
        wrong,
        h("button", {}, t("trends.where.apply")),
      ),
    ),
  );
}
