// The Trends view: how often each emotion, label or cluster is, over time and between groups, with a way to the calls.
import "./trends.css";

import { ApiError, getJson } from "../api";
import { holdings } from "../collection";
import { h } from "../html";
import { count } from "../language";
import { addressOf, go, type Params, type View } from "../router";
import { empty, loading, sayError, trouble } from "../states";
import { bars, chart, type Scale } from "./chart";
import { controls } from "./controls";
import { facetOf, hiddenAtFirst, keysOf, paint, panelsOf, type Line, type Panel } from "./panels";
import { pathOf, placeOf, queryAt, type Query } from "./query";
import { sayRow } from "./say";
import { table } from "./table";
import type { Row, Trends } from "./types";
import { t } from "./words";

const PANELS = 12; // shown at first

let hidden: { of: string; keys: Set<string> } | null = null; // lines that the reader has put out, of what is asked

export async function show(container: HTMLElement, { search, signal }: Params): Promise<View> {
  const query = queryAt(search);
  const [held, { maps }] = await Promise.all([holdings(), getJson<{ maps: { name: string }[] }>("map", signal)]);
  signal.throwIfAborted();
  if (held.status.counts.segments === 0) {
    container.append(empty(t("trends.title"), t("trends.nothing"), h("pre", {}, "e2vsearch ingest FOLDER")));
    return { title: "" };
  }
  const wrong = h("p", { class: "wrong", role: "alert", id: "trends-where-error" });
  const panel = controls(held, maps.map(({ name }) => name), query, wrong, (next) => go(placeOf(next)));
  const results = h("div", { class: "results" }, loading());
  container.append(h("h2", { class: "unseen" }, t("trends.title")), panel, results);
  void load(results, query, wrong, signal);
  return {
    title: "",
    keys: { "/": () => (panel.querySelector("details")!.setAttribute("open", ""), panel.querySelector("textarea")!.focus()) },
    help: [
      [["← ↑ → ↓"], t("trends.keys.step")],
      [["Enter"], t("trends.keys.open")],
      [["/"], t("trends.keys.filter")],
    ],
  };
}

async function load(results: HTMLElement, query: Query, wrong: HTMLElement, signal: AbortSignal): Promise<void> {
  try {
    const trends = await getJson<Trends>(pathOf(query), signal);
    results.replaceChildren(...(trends.rows.length ? new Shown(trends, query).elements : [nothing(query)]));
  } catch (error) {
    if (signal.aborted) return;
    const reason = error instanceof ApiError ? error.reason : "";
    if (reason === "bad-filter" && query.where) {
      results.replaceChildren();
      wrong.textContent = sayError(error);
    } else if (reason === "not-stored" && query.of === "cluster") {
      results.replaceChildren(empty(t("trends.map.none"), t("trends.map.how"), h("pre", {}, "e2vsearch map")));
    } else results.replaceChildren(trouble(error, () => void load(results, query, wrong, signal)));
  }
  results.dataset["ready"] = "yes";
}

/** Why there is nothing, and what to do about it. */
function nothing(query: Query): HTMLElement {
  if (query.where) return empty(t("trends.empty"), t("trends.empty.where"));
  if (query.of === "label") return empty(t("trends.empty.label"), h("p", {}, h("a", { href: addressOf("labels") }, t("trends.empty.label.how"))));
  return empty(t("trends.empty"), t("trends.empty.emotion"));
}

class Shown {
  readonly elements: HTMLElement[];
  private readonly panels: Panel[];
  private readonly keys: Line[];
  private readonly off: Set<string>;
  private readonly grid = h("div", { class: "panels" });
  private readonly figures = h("div", {});
  private all = false; // panels

  constructor(
    private readonly trends: Trends,
    query: Query,
  ) {
    const facet = facetOf(trends, query.panels);
    this.panels = panelsOf(trends, facet);
    this.keys = keysOf(this.panels);
    const of = `${trends.of} ${trends.by === null} ${trends.group} ${trends.map} ${facet}`;
    // without periods a value is a bar, and there is room for all
    if (hidden?.of !== of) hidden = { of, keys: new Set(trends.by === null ? [] : hiddenAtFirst(this.keys, facet)) };
    this.off = hidden.keys;
    const legend = this.keys.length > 1 ? this.legend() : null;
    this.elements = [h("div", { class: "about" }, h("h3", {}, this.title()), h("p", { class: "note" }, this.sum())), ...(legend ? [legend] : []), this.grid, this.figures];
    this.draw();
  }

  private title(): string {
    const { of, by, group, where, map } = this.trends;
    const what = t(`trends.share.${of}`, { map: map ?? "" });
    const over = by === null ? "" : t(`trends.over.${by}`);
    return t("trends.head", { what, over, group: group === null ? "" : t(by === null ? "trends.over.group" : "trends.and", { group }), where: where === null ? "" : t("trends.among", { where }) });
  }

  private sum(): string {
    const cells = new Map(this.trends.rows.map((row) => [`${row.period} ${row.group}`, row]));
    const sum = (of: "of_recordings" | "of_segments"): string => count([...cells.values()].reduce((all, row) => all + row[of], 0));
    return t("trends.sum", { segments: sum("of_segments"), calls: sum("of_recordings") });
  }

  private legend(): HTMLElement {
    const chips = this.keys.map((line) => {
      const chip = h(
        "button",
        {
          type: "button",
          class: "tag",
          "aria-pressed": String(!this.off.has(line.key)),
          click: () => {
            if (!this.off.delete(line.key)) this.off.add(line.key);
            chip.setAttribute("aria-pressed", String(!this.off.has(line.key)));
            this.draw();
          },
        },
        h("span", { class: "swatch", "aria-hidden": "true" }),
        line.name,
      );
      paint(chip, line);
      return chip;
    });
    return h("div", { class: "tags legend", role: "group", "aria-label": t("trends.legend") }, ...chips);
  }

  private lines(panel: Panel): Line[] {
    return this.keys.length > 1 ? panel.lines.filter(({ key }) => !this.off.has(key)) : panel.lines;
  }

  private draw(): void {
    const shown = this.all ? this.panels : this.panels.slice(0, PANELS);
    const rows = new Set(this.panels.flatMap((panel) => this.lines(panel)).flatMap((line) => line.rows));
    const starts = [...new Set(this.trends.rows.map(({ start }) => start))].filter((start) => start !== null).sort();
    const scale: Scale = { top: Math.min(1, Math.max(0.05, ...[...rows].map(({ high }) => high)) * 1.05), starts };
    this.grid.replaceChildren(...shown.map((panel) => this.panel(panel, scale)));
    if (shown.length < this.panels.length) {
      const more = h("button", { type: "button", click: () => ((this.all = true), this.draw()) }, t("trends.panels.all", { n: this.panels.length }));
      this.grid.append(h("div", { class: "more" }, more));
    }
    this.figures.replaceChildren(table(this.trends, this.trends.rows.filter((row) => rows.has(row)), this.title()));
  }

  private panel(panel: Panel, scale: Scale): HTMLElement {
    const lines = this.lines(panel);
    const held = t("trends.bar", { calls: count(panel.recordings), segments: count(panel.segments) });
    const readout = h("p", { class: "readout" }, held);
    const told = (row: Row | null): void => void (readout.textContent = row === null ? held : sayRow(this.trends, row));
    const title = h("h4", {}, panel.emotion === null ? null : h("span", { class: "swatch", "aria-hidden": "true" }), panel.name);
    if (panel.emotion !== null) title.dataset["emotion"] = panel.emotion;
    const picture = !lines.length ? h("p", { class: "note" }, t("trends.off")) : this.trends.by === null ? bars(this.trends, lines, scale.top) : chart(this.trends, panel, lines, scale, told);
    return h("section", { class: "card panel" }, title, readout, picture as HTMLElement);
  }
}
