// The search form's fields, to and from a query.
import { byId, h } from "../html";
import { emotionName } from "../language";
import { COURSES, filtersOn, type Query } from "./query";
import type { By, Filters } from "../types";
import { t } from "./words";

const NAMELESS = ["unsure", "too short"]; // what segments are named of which no emotion is clear
const METADATA_SHOWN = 4; // more keys stay under "Advanced"

const form = byId<HTMLFormElement>("search");
const metadata = byId("metadata");
const advanced = byId("advanced");
const explain = form.elements.namedItem("explain") as HTMLInputElement;
const FIELDS = ["emotion", "label", "course", "channel", "from", "to", "call", "text", "where"] as const;

type Field = HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement;

function field(name: string): Field {
  return form.elements.namedItem(name) as Field;
}

/** Offers what the collection holds: its emotions, labels, metadata keys and their values. */
export function offer(filters: Filters, query: Query): void {
  options("emotion", filters.emotions.length ? [...filters.emotions, ...NAMELESS] : [], emotionName);
  options("label", filters.labels, String);
  options("course", COURSES, courseName);
  const none = filters.labels.length === 0;
  field("label").closest("label")?.toggleAttribute("hidden", none);
  field("emotion").closest("label")?.classList.toggle("wide", none);
  byId("references").replaceChildren(
    ...filters.emotions.map((emotion) => h("option", { value: emotion }, emotionName(emotion))),
    ...filters.labels.map((label) => h("option", { value: label })),
  );
  byId("labels").replaceChildren(...filters.labels.map((label) => h("option", { value: label })));
  // a column called "date" or "name" is asked for by the fields above
  const keys = Object.entries(filters.metadata).filter(([key]) => !filters.fields.includes(key));
  const pickers = keys.map(([key, values], index) => {
    const list = `values-${index}`;
    return h(
      "label",
      { class: "metadata-field" },
      h("span", {}, key),
      h("input", { name: `meta.${key}`, list, placeholder: t("filters.any") }),
      h("datalist", { id: list }, ...values.map((value) => h("option", { value }))),
    );
  });
  advanced.querySelectorAll(".metadata-field").forEach((picker) => picker.remove());
  metadata.replaceChildren(...pickers.slice(0, METADATA_SHOWN));
  advanced.append(...pickers.slice(METADATA_SHOWN));
  write(query);
}

/** What a course is called. */
function courseName(course: string): string {
  return t(`filters.course.${course as (typeof COURSES)[number]}`);
}

function options(name: string, values: readonly string[], say: (value: string) => string): void {
  field(name).replaceChildren(
    h("option", { value: "" }, t("filters.any")),
    ...values.map((value) => h("option", { value }, say(value))),
  );
}

/** The query that the form asks for, about the same reference as `query`. */
export function read(query: Query): Query {
  const found: Query = { ...query, by: by(), k: Number(field("k").value), explain: explain.checked, metadata: {} };
  for (const name of FIELDS) found[name] = field(name).value.trim();
  for (const input of form.querySelectorAll<HTMLInputElement>(".metadata-field input")) {
    if (input.value.trim()) found.metadata[input.name.slice("meta.".length)] = input.value.trim();
  }
  return found;
}

function by(): By {
  return (form.elements.namedItem("by") as RadioNodeList).value === "segment" ? "segment" : "recording";
}

/** Puts a query into the form: after Back, or a link that was sent. */
export function write(query: Query): void {
  (form.elements.namedItem("by") as RadioNodeList).value = query.by;
  set(field("k"), String(query.k));
  explain.checked = query.explain;
  for (const name of FIELDS) set(field(name), query[name]);
  for (const input of form.querySelectorAll<HTMLInputElement>(".metadata-field input")) {
    input.value = query.metadata[input.name.slice("meta.".length)] ?? "";
  }
  if (query.where) advanced.setAttribute("open", "");
  const on = filtersOn(query);
  byId("filters-on").textContent = on ? t("filters.on", { n: on }) : "";
  byId("clear").hidden = on === 0;
}

function set(element: Field, value: string): void {
  // a link may name an emotion or a number of hits that is not on offer
  if (element instanceof HTMLSelectElement && value && ![...element.options].some((each) => each.value === value)) {
    element.append(h("option", { value }, value));
  }
  element.value = value;
}
