// The labels that there are: given by number, counted, and removed as a whole.
import { sendJson } from "../api";
import { h, icon } from "../html";
import { count } from "../language";
import { addressOf } from "../router";
import { sayError } from "../states";
import type { LabelCount, Labels } from "./types";
import { t } from "./words";

export const NUMBERED = 9;

let order: string[] = []; // of this page: a number keeps its label for as long as it is open

/** Labels in the order of their numbers: those with most examples first, later ones behind. */
export function inOrder(labels: readonly LabelCount[]): LabelCount[] {
  const known = new Map(labels.map((each) => [each.name, each]));
  const fresh = labels.filter(({ name }) => !order.includes(name)).sort((a, b) => b.examples - a.examples);
  order = [...order.filter((name) => known.has(name)), ...fresh.map(({ name }) => name)];
  return order.map((name) => known.get(name)!);
}

/** Buttons that give a label, the first nine with their key. */
export function labelButtons(labels: readonly LabelCount[], give: (label: string) => void): HTMLElement {
  const buttons = labels.map(({ name }, at) =>
    h(
      "button",
      { type: "button", class: "tag", "aria-keyshortcuts": at < NUMBERED ? String(at + 1) : null, click: () => give(name) },
      at < NUMBERED ? h("kbd", { "aria-hidden": "true" }, String(at + 1)) : null,
      name,
    ),
  );
  return h("div", { class: "tags give", role: "group", "aria-label": t("labels.give") }, ...buttons);
}

/** How many examples each label has of what is useful, with a way to its segments and to its end. */
export function progress({ labels, needs }: Labels, removed: (label: string) => void): HTMLElement {
  const given = labels.reduce((sum, { examples }) => sum + examples, 0);
  const useful = labels.reduce((sum, { examples }) => sum + Math.min(examples, needs.measure), 0);
  const wanted = needs.measure * Math.max(2, labels.length);
  const bar = (share: number): HTMLElement => {
    const fill = h("span", { class: "fill" });
    fill.style.width = `${100 * Math.min(1, share)}%`;
    return h("span", { class: "bar", "aria-hidden": "true" }, fill);
  };
  const rows = labels.map((label) => {
    const enough = label.examples >= needs.measure;
    const calls = t(label.recordings === 1 ? "labels.of.call" : "labels.of.calls", { n: count(label.recordings) });
    const remove = h(
      "button",
      { type: "button", class: "plain round", "aria-label": t("labels.remove", { label: label.name }), title: t("labels.remove", { label: label.name }), disabled: label.examples === 0, click: () => ask(label, removed) },
      icon("remove"),
    );
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: addressOf("calls", { search: { label: label.name } }) }, label.name)),
      h(
        "td",
        { class: "number", title: calls },
        t(enough ? "labels.examples.enough" : "labels.examples.of", { n: count(label.examples), of: needs.measure }),
        h("small", { class: label.recordings < needs.recordings ? "few" : "" }, calls),
        bar(label.examples / needs.measure),
      ),
      h("td", { class: "number" }, label.classified ? count(label.classified) : "–"),
      h("td", {}, remove),
    );
  });
  return h(
    "div",
    {},
    h("p", { class: "line" }, h("strong", {}, t("labels.useful", { n: count(useful), of: count(wanted) })), bar(useful / wanted)),
    h("p", { class: "note" }, t(given ? "labels.useful.long" : "labels.useful.none", { measure: needs.measure, calls: needs.recordings })),
    labels.length
      ? h(
          "table",
          {},
          h("caption", { class: "unseen" }, t("labels.table")),
          h("thead", {}, h("tr", {}, ...(["label", "examples", "classified"] as const).map((name) => h("th", { scope: "col", class: name === "label" ? null : "number" }, t(`labels.column.${name}`))), h("td", {}))),
          h("tbody", {}, ...rows),
        )
      : null,
  );
}

/** Asks before a label is taken back from all that have it. */
function ask(label: LabelCount, removed: (label: string) => void): void {
  const wrong = h("p", { class: "wrong", role: "alert" });
  const remove = async (event: Event): Promise<void> => {
    event.preventDefault();
    try {
      await sendJson("DELETE", `labels/${encodeURIComponent(label.name)}`);
      dialog.close();
      removed(label.name);
    } catch (error) {
      wrong.textContent = sayError(error);
    }
  };
  const dialog = h(
    "dialog",
    { "aria-labelledby": "label-remove", close: () => dialog.remove() },
    h(
      "form",
      { method: "dialog", submit: (event) => (event as SubmitEvent).submitter?.getAttribute("value") === "ok" && void remove(event) },
      h("h2", { id: "label-remove" }, t("labels.remove", { label: label.name })),
      h("p", {}, t(label.examples === 1 ? "labels.remove.one" : "labels.remove.many", { n: count(label.examples) })),
      wrong,
      h("div", { class: "buttons" }, h("button", { value: "no" }, t("cancel")), h("button", { class: "strong", value: "ok" }, t("labels.remove.yes"))),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}
