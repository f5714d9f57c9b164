// What was said, a row for each segment: heard, chosen, ticked and followed while it plays.
import { emotionTag } from "../emotion";
import { clock, h, span } from "../html";
import { percent } from "../language";
import type { ChannelTimeline, Segment } from "../types";
import { roleName } from "./roles";
import { t } from "./words";

export interface RowEvents {
  choose: (segment: Segment, event: MouseEvent) => void;
  tick: (segment: Segment, event: MouseEvent) => void;
}

interface Row {
  element: HTMLElement;
  box: HTMLInputElement;
  time: HTMLButtonElement;
  tags: HTMLElement;
}

export class Transcript {
  readonly element: HTMLElement;
  private readonly list = h("ol", { class: "rows" });
  private readonly rows = new Map<string, Row>();
  private current: string | null = null;

  /**
   * @param segments in order of time.
   * @param matched the segments that the last query found, with their scores.
   */
  constructor(
    segments: readonly Segment[],
    private readonly channels: readonly ChannelTimeline[],
    private readonly matched: ReadonlyMap<string, number | null>,
    private readonly events: RowEvents,
  ) {
    this.list.append(...segments.map((each) => this.row(each)));
    const worded = segments.some(({ text }) => text);
    this.element = h(
      "section",
      { class: "card transcript", "aria-labelledby": "transcript-title" },
      h("h3", { id: "transcript-title" }, t(worded ? "calls.transcript" : "calls.segments")),
      worded || !segments.length ? null : h("p", { class: "note" }, t("calls.transcript.none")),
      segments.length ? this.list : h("p", {}, t("calls.silent")),
    );
    this.choose(segments[0]?.id ?? null);
  }

  /** Marks the row that the keys are about; it alone can be reached with Tab. */
  choose(id: string | null, focus = false): void {
    for (const [of, is] of [[this.current, false], [id, true]] as const) {
      const row = of === null ? undefined : this.rows.get(of);
      for (const each of row ? [row.element, row.box, row.time] : []) each.setAttribute("tabindex", is ? "0" : "-1");
      if (is) row?.element.setAttribute("aria-current", "true");
      else row?.element.removeAttribute("aria-current");
    }
    this.current = id;
    const row = id === null ? undefined : this.rows.get(id);
    if (!row) return;
    if (focus) row.element.focus({ preventScroll: true });
    this.reveal(row.element);
  }

  /** Marks what is heard. */
  now(heard: ReadonlySet<string>): void {
    for (const [id, { element }] of this.rows) element.classList.toggle("now", heard.has(id));
  }

  tick(selected: ReadonlySet<string>): void {
    for (const [id, { box }] of this.rows) box.checked = selected.has(id);
  }

  /** Shows a segment's tags anew, after it was labelled. */
  retag(segment: Segment): void {
    this.rows.get(segment.id)?.tags.replaceChildren(...this.tags(segment));
  }

  /** Scrolls the list alone, and not the page. */
  private reveal(row: HTMLElement): void {
    const top = row.offsetTop - this.list.offsetTop;
    const { scrollTop, clientHeight } = this.list;
    if (top < scrollTop) this.list.scrollTop = top - 8;
    else if (top + row.offsetHeight > scrollTop + clientHeight) this.list.scrollTop = top + row.offsetHeight - clientHeight + 8;
  }

  private row(segment: Segment): HTMLElement {
    const time = clock(segment.start_s);
    const box = h("input", { type: "checkbox", tabindex: -1, "aria-label": t("calls.select", { what: span(segment.start_s, segment.end_s) }) });
    box.addEventListener("click", (event) => {
      event.stopPropagation();
      this.events.tick(segment, event);
    });
    const play = h("button", { type: "button", class: "time", tabindex: -1, "aria-label": t("hit.play", { what: time }) }, time);
    const tags = h("div", { class: "tags" }, ...this.tags(segment));
    const element = h(
      "li",
      { class: "row", tabindex: -1, "data-segment": segment.id, "data-emotion": segment.emotion ?? "", click: (event) => this.click(segment, event as MouseEvent) },
      box,
      play,
      h("div", { class: "said" }, segment.text ? h("p", {}, segment.text) : null, tags),
    );
    this.rows.set(segment.id, { element, box, time: play, tags });
    return element;
  }

  private click(segment: Segment, event: MouseEvent): void {
    if (getSelection()?.toString() && !event.shiftKey) return; // words were marked, to be copied
    this.events.choose(segment, event);
  }

  private tags(segment: Segment): HTMLElement[] {
    const several = this.channels.filter(({ analysed }) => analysed).length > 1;
    const role = this.channels[segment.channel]?.role ?? null;
    const { label, label_score } = segment;
    const score = this.matched.get(segment.id);
    const said = label === null ? "" : label_score === 1 ? t("calls.yours", { label }) : `${label} ${percent(label_score ?? 0)}`;
    return [
      ...(several ? [h("span", { class: "quiet" }, roleName(role, segment.channel))] : []),
      emotionTag(segment),
      ...(label === null ? [] : [h("span", { class: "tag own" }, said)]),
      ...(score === undefined ? [] : [h("span", { class: "tag found" }, h("span", { class: "matched", "aria-hidden": "true" }, "◆"), `${t("calls.matched")}${score === null ? "" : ` ${score.toFixed(3)}`}`)]),
    ];
  }
}
