// A label for what is selected: by its number, by its name, taken back at once.
import { sendJson } from "../api";
import { holdings } from "../collection";
import { h, span } from "../html";
import { addressOf } from "../router";
import { sayError } from "../states";
import type { Segment } from "../types";
import { t } from "./words";

const NUMBERED = 9;
const TAKEN_BACK = 100; // segments that one request can take a label from

export interface LabelEvents {
  labelled: (segments: readonly Segment[]) => void;
  clear: () => void;
}

export class Labelling {
  readonly element: HTMLElement;
  private readonly about = h("p", { class: "whom" });
  private readonly numbered = h("div", { class: "tags" });
  private readonly name = h("input", { name: "label", list: "labels", required: true, maxlength: 64, placeholder: t("calls.label.example"), "aria-label": t("calls.label.name") });
  private readonly give = h("button", { class: "strong" }, t("calls.label.give"));
  private readonly clear = h("button", { type: "button", click: () => this.events.clear() }, t("calls.label.clear"));
  private readonly alike = h("a", { class: "button", href: addressOf("find") }, t("calls.more"));
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly wrong = h("p", { class: "wrong", role: "alert" });
  private selection: readonly Segment[] = [];

  constructor(
    private labels: readonly string[],
    private readonly events: LabelEvents,
  ) {
    this.name.addEventListener("keydown", (event) => event.key === "Escape" && this.name.blur());
    const form = h("form", { class: "joined", submit: (event) => this.submit(event) }, this.name, this.give);
    this.element = h(
      "section",
      { class: "card labelling", "aria-label": t("calls.label") },
      h("div", { class: "line" }, this.about, this.clear, this.alike),
      this.numbered,
      form,
      this.said,
      this.wrong,
    );
    this.offer();
  }

  /** Says what the next label is given to: what is ticked, else the one segment at hand. */
  show(segments: readonly Segment[], ticked: boolean): void {
    this.selection = segments;
    const [first] = segments;
    if (ticked) this.about.textContent = t(segments.length === 1 ? "calls.selected.one" : "calls.selected", { n: segments.length });
    else this.about.textContent = first ? t("calls.selected.this", { what: span(first.start_s, first.end_s) }) : t("calls.selected.none");
    this.clear.hidden = !ticked;
    this.alike.hidden = !segments.length;
    this.alike.href = addressOf("find", { search: segments.map(({ id }) => ["ref", id]) });
    for (const button of [this.give, ...this.numbered.querySelectorAll("button")]) button.disabled = !segments.length;
  }

  /** Gives the label of that number, from 1. */
  number(n: number): void {
    const label = this.labels[n - 1];
    if (label !== undefined) void this.label(label);
  }

  focus(): void {
    this.name.focus();
  }

  private offer(): void {
    this.numbered.replaceChildren(
      ...this.labels.slice(0, NUMBERED).map((label, at) =>
        h("button", { type: "button", class: "tag", click: () => void this.label(label) }, h("kbd", { "aria-hidden": "true" }, String(at + 1)), label),
      ),
    );
  }

  private submit(event: Event): void {
    event.preventDefault();
    const label = this.name.value.trim();
    if (label) void this.label(label);
  }

  private async label(label: string): Promise<void> {
    const segments = [...this.selection];
    if (!segments.length) return;
    const before = segments.map((each) => (each.label_score === 1 ? each.label : null));
    await this.change(async () => {
      await sendJson("POST", "labels", { label, segments: segments.map(({ id }) => id) });
      this.set(segments, () => label);
      this.name.value = "";
      const back = h("button", { type: "button", class: "plain", click: () => void this.takeBack(label, segments, before) }, t("calls.label.back"));
      this.said.replaceChildren(t(segments.length === 1 ? "calls.labelled.one" : "calls.labelled", { n: segments.length, label }), " ", back);
    });
  }

  private async takeBack(label: string, segments: readonly Segment[], before: readonly (string | null)[]): Promise<void> {
    await this.change(async () => {
      const none = segments.filter((_, at) => before[at] === null);
      for (let at = 0; at < none.length; at += TAKEN_BACK) {
        const of = new URLSearchParams(none.slice(at, at + TAKEN_BACK).map(({ id }) => ["segment", id]));
        await sendJson("DELETE", `labels/${encodeURIComponent(label)}?${of}`);
      }
      for (const old of new Set(before)) {
        if (old !== null) await sendJson("POST", "labels", { label: old, segments: segments.filter((_, at) => before[at] === old).map(({ id }) => id) });
      }
      this.set(segments, (at) => before[at] ?? null);
      this.said.replaceChildren(t("calls.label.taken"));
    });
  }

  private async change(work: () => Promise<void>): Promise<void> {
    this.wrong.textContent = "";
    this.said.replaceChildren();
    try {
      await work();
      const { filters } = await holdings(true);
      this.labels = filters.labels;
      this.offer();
    } catch (error) {
      this.wrong.textContent = sayError(error);
    }
  }

  private set(segments: readonly Segment[], label: (at: number) => string | null): void {
    segments.forEach((each, at) => Object.assign(each, { label: label(at), label_score: label(at) === null ? null : 1 }));
    this.events.labelled(segments);
  }
}
