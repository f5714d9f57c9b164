// The list's filters: those of the Find view, by the same names in the address.
import { h } from "../html";
import { emotionName } from "../language";
import { COURSES, filtersOn, NOTHING, type Query } from "../find/query";
import { t as find } from "../find/words";
import type { Filters } from "../types";
import { t } from "./words";

const NAMELESS = ["unsure", "too short"];
const METADATA_SHOWN = 3; // more keys stay under "Advanced"
const META = "meta.";
const FIELDS = ["text", "call", "emotion", "label", "course", "from", "to", "channel", "where"] as const;

let advancedOpen = false; // as the reader left it: the form is drawn anew with each change

/**
 * @param asked called with what is filtered by, whenever the reader has changed it.
 * @param wrong stands beside the filter that is written by hand.
 */
export function filterForm(filters: Filters, query: Query, wrong: HTMLElement, asked: (query: Query) => void): HTMLFormElement {
  const select = (name: "emotion" | "label" | "course", values: readonly string[], say: (value: string) => string): HTMLElement => {
    const known = query[name] && !values.includes(query[name]) ? [...values, query[name]] : values;
    const options = [h("option", { value: "" }, find("filters.any")), ...known.map((value) => h("option", { value }, say(value)))];
    const field = h("select", { name }, ...options);
    field.value = query[name];
    return field;
  };
  const input = (name: keyof Query & string, attributes: Record<string, string> = {}): HTMLElement =>
    h("input", { name, value: String(query[name]), ...attributes });
  const field = (said: string, ...of: HTMLElement[]): HTMLElement => h("label", {}, h("span", {}, said), ...of);
  const keys = Object.entries(filters.metadata).filter(([key]) => !filters.fields.includes(key));
  const metadata = keys.map(([key, values], at) => {
    const list = `call-values-${at}`;
    const offered = h("datalist", { id: list }, ...values.map((value) => h("option", { value })));
    return field(key, h("input", { name: META + key, list, value: query.metadata[key] ?? "", placeholder: find("filters.any") }), offered);
  });
  const where = h("textarea", { name: "where", rows: 2, spellcheck: "false", autocapitalize: "off", "aria-describedby": wrong.id, placeholder: 'course = "worsening" and overtalk > 0.1' });
  where.value = query.where;
  const on = filtersOn(query);
  const advanced = h(
    "details",
    { open: advancedOpen || Boolean(query.where || query.channel), toggle: () => (advancedOpen = advanced.open) },
    h("summary", {}, find("filters.advanced")),
    h(
      "div",
      { class: "fields" },
      ...metadata.slice(METADATA_SHOWN),
      field(find("filters.channel"), input("channel", { type: "number", min: "0", max: "63", inputmode: "numeric", placeholder: find("filters.any") })),
      h("label", { class: "wide" }, h("span", {}, find("filters.where")), where),
    ),
    wrong,
  );
  const form = h(
    "form",
    { class: "card filters", role: "search", autocomplete: "off", "aria-label": t("calls.filters") },
    h(
      "div",
      { class: "fields" },
      field(find("filters.text"), input("text", { placeholder: find("filters.text.example") })),
      field(find("filters.call"), input("call", { placeholder: find("filters.call.example") })),
      filters.emotions.length ? field(find("filters.emotion"), select("emotion", [...filters.emotions, ...NAMELESS], emotionName)) : null,
      filters.labels.length ? field(find("filters.own"), select("label", filters.labels, String)) : null,
      field(find("filters.course"), select("course", COURSES, (name) => find(`filters.course.${name as (typeof COURSES)[number]}`))),
      field(find("filters.from"), input("from", { type: "date" })),
      field(find("filters.to"), input("to", { type: "date" })),
      ...metadata.slice(0, METADATA_SHOWN),
    ),
    advanced,
    h(
      "div",
      { class: "buttons" },
      h("button", { class: "strong" }, t("calls.show")),
      on ? h("button", { type: "button", class: "plain", click: () => asked(NOTHING) }, find("filters.clear")) : null,
    ),
  );
  const read = (): void => {
    const data = new FormData(form);
    const next: Query = { ...NOTHING, metadata: {} };
    for (const name of FIELDS) next[name] = String(data.get(name) ?? "").trim();
    for (const [name, value] of data) if (name.startsWith(META) && String(value).trim()) next.metadata[name.slice(META.length)] = String(value).trim();
    asked(next);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    read();
  });
  form.addEventListener("change", () => setTimeout(read)); // after "submit", if Enter brings both about
  return form;
}
