// How good a classifier is, in words and figures: cross-validated, with what to be careful about.
import { h } from "../html";
import { count, percent } from "../language";
import type { ClassifierReport, Needs } from "./types";
import { t } from "./words";

const DARKEST = 40; // percent of the accent in a cell of the confusion: text on it stays readable

export function reportOf(report: ClassifierReport, needs: Needs): HTMLElement {
  const { name, version, labels, contrast } = report;
  const examples = report.classes.filter(({ label }) => label !== contrast).reduce((sum, each) => sum + each.examples, 0);
  const date = new Date(report.created_at).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  const head = t("labels.report.head", { name, version, date, examples: count(examples), labels: labels.length - (contrast === null ? 0 : 1) });
  const notes = warnings(report, needs);
  return h(
    "div",
    { class: "report" },
    h("p", {}, head),
    report.uar === null ? null : figures(report),
    notes.length ? h("ul", { class: "warnings", "aria-label": t("labels.report.careful") }, ...notes.map((note) => h("li", {}, note))) : null,
    byLabel(report),
    report.confusion.length ? confusion(report) : null,
  );
}

function figures(report: ClassifierReport): HTMLElement {
  const [low, high] = report.uar_interval ?? [report.uar!, report.uar!];
  const values = { uar: percent(report.uar!), low: percent(low), high: percent(high), chance: percent(report.uar_chance) };
  const [least, most] = report.accuracy_interval ?? [report.accuracy!, report.accuracy!];
  const right = { accuracy: percent(report.accuracy!), low: percent(least), high: percent(most), chance: percent(report.accuracy_chance) };
  const off = report.calibration_error === null ? "" : t("labels.report.calibration", { points: count(report.calibration_error * 100) });
  return h(
    "div",
    { class: "figures" },
    h("p", { class: "headline" }, h("strong", {}, values.uar), " ", t("labels.report.uar", values)),
    scale(report.uar!, low, high, report.uar_chance),
    h("p", {}, t("labels.report.accuracy", right), " ", off),
    h("p", { class: "note" }, t(report.imported ? "labels.report.imported" : "labels.report.how", { folds: report.folds, groups: count(report.groups) })),
  );
}

/** A share with its interval on a line from 0 to 100 %, and where guessing would be; the text beside it says the same. */
function scale(value: number, low: number, high: number, chance: number): HTMLElement {
  const part = (name: string, from: number, to: number | null = null): HTMLElement => {
    const element = h("span", { class: name });
    element.style.left = `${100 * from}%`;
    if (to !== null) element.style.width = `${100 * (to - from)}%`;
    return element;
  };
  return h("div", { class: "scale", "aria-hidden": "true" }, part("interval", low, high), part("chance", chance), part("value", value));
}

function byLabel({ classes, contrast }: ClassifierReport): HTMLElement {
  const share = (value: number | null): HTMLElement => {
    if (value === null) return h("td", { class: "number" }, "–");
    const fill = h("span", { class: "fill" });
    fill.style.width = `${100 * value}%`;
    return h("td", { class: "number share" }, percent(value), h("span", { class: "bar", "aria-hidden": "true" }, fill));
  };
  const rows = classes.map((each) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, each.label === contrast ? t("labels.report.contrast", { label: each.label }) : each.label),
      h("td", { class: "number" }, count(each.examples)),
      h("td", { class: "number" }, count(each.groups)),
      share(each.recall),
      share(each.precision),
    ),
  );
  const columns = ["label", "examples", "groups", "recall", "precision"] as const;
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": t("labels.report.classes") },
    h(
      "table",
      {},
      h("caption", {}, t("labels.report.classes")),
      h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col", class: name === "label" ? null : "number" }, t(`labels.column.${name}`))))),
      h("tbody", {}, ...rows),
    ),
  );
}

function confusion({ confusion: cells, labels }: ClassifierReport): HTMLElement {
  const rows = cells.map((row, at) => {
    const all = row.reduce((sum, each) => sum + each, 0);
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, labels[at]!),
      ...row.map((n, to) => {
        const cell = h("td", { class: at === to ? "number right" : "number" }, count(n));
        cell.style.setProperty("--shade", `${all ? (DARKEST * n) / all : 0}%`);
        return cell;
      }),
    );
  });
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "group", "aria-label": t("labels.report.confusion") },
    h(
      "table",
      { class: "confusion" },
      h("caption", {}, t("labels.report.confusion")),
      h("thead", {}, h("tr", {}, h("td", {}), ...labels.map((label) => h("th", { scope: "col", class: "number" }, label)))),
      h("tbody", {}, ...rows),
    ),
  );
}

/** What the service warns of, in the reader's language: from the same figures, in the same order. */
function warnings({ classes, contrast, uar, uar_interval, uar_chance, folds }: ClassifierReport, needs: Needs): string[] {
  const found: string[] = [];
  for (const { label, examples, groups } of classes) {
    if (examples < needs.measure) found.push(t("labels.warning.examples", { label, n: examples, least: needs.measure }));
    if (groups === 1) found.push(t("labels.warning.voice", { label }));
    else if (groups < needs.recordings) found.push(t("labels.warning.groups", { label, n: groups }));
  }
  const drawn = classes.find(({ label }) => label === contrast);
  if (drawn) found.push(t("labels.warning.contrast", { label: classes[0]!.label, n: count(drawn.examples) }));
  if (uar === null) found.push(t("labels.warning.figures"));
  else if (uar_interval && uar_interval[0] <= uar_chance) found.push(t("labels.warning.chance"));
  if (!folds) found.push(t("labels.warning.calibration"));
  return found;
}
