// What was selected, as a list: heard one by one, labelled together, filtered by, saved, and searched for more like it.
import { sendJson } from "../api";
import { holdings } from "../collection";
import { saveCsv } from "../csv";
import { emotionTag } from "../emotion";
import { h, icon, span } from "../html";
import { count } from "../language";
import { onPlaying, toggle } from "../player";
import { addressOf } from "../router";
import { sayError } from "../states";
import { detailsOf, idOf, soundOf } from "./details";
import { fetchValues, type Points } from "./points";
import { t } from "./words";

const ROW_PX = 56; // as in map.css
const SPARE_ROWS = 6; // drawn above and below what is seen
const MOST_REFERENCES = 16; // of one query
const MOST_FILTERED = 150; // ids in a filter's text of 2,000 characters
const LABELLED_AT_ONCE = 1000;

export interface SelectionEvents {
  cleared: () => void;
  chosen: (point: number) => void;
  labelled: () => void;
}

export class Selection {
  readonly element = h("section", { class: "card selection", "aria-labelledby": "selection-title" });
  private readonly rows = h("div", { class: "rows" });
  private readonly list = h("div", { class: "list", tabindex: 0, role: "group" }, this.rows);
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly wrong = h("p", { class: "wrong", role: "alert" });
  private drawn = "";
  private playing = "";
  private labels: string[] = [];

  constructor(
    private readonly points: Points,
    readonly chosen: readonly number[],
    title: string,
    private readonly events: SelectionEvents,
  ) {
    const clear = h("button", { type: "button", class: "plain round", title: t("map.clear"), "aria-label": t("map.clear"), click: events.cleared }, icon("remove"));
    this.list.setAttribute("aria-label", title);
    this.list.addEventListener("scroll", () => this.draw());
    this.rows.style.height = `${chosen.length * ROW_PX}px`;
    this.element.dataset["selected"] = String(chosen.length);
    this.element.append(
      h("header", {}, h("h2", { id: "selection-title" }, title), clear),
      this.actions(),
      this.said,
      this.wrong,
      this.list,
    );
    onPlaying(({ path, on }) => {
      const playing = on ? path : "";
      if (playing === this.playing || !this.element.isConnected) return;
      this.playing = playing;
      this.drawn = "";
      this.draw();
    });
    void holdings().then(({ filters }) => (this.labels = filters.labels));
  }

  /** Draws the rows that are seen. */
  draw(): void {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_PX) - SPARE_ROWS);
    const last = Math.min(this.chosen.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW_PX) + SPARE_ROWS);
    if (this.drawn === `${first} ${last}`) return;
    this.drawn = `${first} ${last}`;
    this.rows.replaceChildren(...this.chosen.slice(first, last).map((point, at) => this.row(point, first + at)));
  }

  private row(point: number, at: number): HTMLElement {
    const { points } = this;
    const id = idOf(points, point);
    const on = this.playing === soundOf(id);
    const name = h("a", { href: addressOf("calls", { id: `call:${points.recordings[point]}`, search: points.by === "segment" ? { segment: id } : "" }) }, `call:${points.recordings[point]}`);
    const times = span(points.start_s[point]!, points.end_s[point]!);
    const words = h("span", { class: "words" }, times);
    const play = h("button", { type: "button", class: "play", click: () => this.play(id, point) }, icon(on ? "pause" : "play"));
    const say = (called: string): void => play.setAttribute("aria-label", t(on ? "hit.pause" : "hit.play", { what: called }));
    say(id);
    const tag = emotionTag(emotionOf(points, point));
    const element = h(
      "div",
      { class: "row" },
      play,
      h("span", { class: "about" }, name, words),
      tag,
    );
    element.style.top = `${at * ROW_PX}px`;
    detailsOf(id).then(
      (details) => {
        name.textContent = details.name;
        words.textContent = details.text === null ? times : `${times} “${details.text}”`;
        say(`${details.name}, ${times}`);
      },
      () => (words.textContent = t("error.gone", { what: id })),
    );
    return element;
  }

  private play(id: string, point: number): void {
    this.events.chosen(point);
    toggle(soundOf(id)).catch((error: unknown) => this.fail(error));
  }

  private actions(): HTMLElement {
    const ids = this.chosen.map((point) => idOf(this.points, point));
    const step = Math.max(1, ids.length / MOST_REFERENCES);
    const few = Array.from({ length: Math.min(ids.length, MOST_REFERENCES) }, (_, at) => ids[Math.floor(at * step)]!);
    const more = addressOf("find", { search: [...few.map((id) => ["ref", id]), ["by", this.points.by]] });
    const numbers = ids.map((id) => id.split(":")[1]).join(", ");
    const where = `${this.points.by} in (${numbers})`;
    const filter =
      ids.length <= MOST_FILTERED
        ? h("a", { class: "button", href: addressOf("find", { search: { by: this.points.by, where } }) }, t("map.filter"))
        : h("button", { type: "button", disabled: true, title: t("map.filter.many", { n: MOST_FILTERED }) }, t("map.filter"));
    const buttons = h(
      "div",
      { class: "buttons" },
      h("a", { class: "button more", href: more, title: t("map.more.long", { n: few.length }) }, t("map.more")),
      filter,
      h("button", { type: "button", click: () => void this.save() }, t("csv.save")),
    );
    return this.points.by === "segment" ? h("div", {}, this.labelForm(ids), buttons) : buttons;
  }

  private labelForm(ids: string[]): HTMLElement {
    const name = h("input", { name: "label", list: "labels", required: true, maxlength: 64, placeholder: t("map.label.example"), "aria-label": t("map.label.name") });
    const save = h("button", { class: "strong" }, t("map.label", { n: count(ids.length) }));
    const suggestions = h("datalist", { id: "labels-here" });
    name.setAttribute("list", "labels-here");
    name.addEventListener("focus", () => suggestions.replaceChildren(...this.labels.map((value) => h("option", { value }))), { once: true });
    const submit = async (event: Event): Promise<void> => {
      event.preventDefault();
      const label = name.value.trim();
      if (!label) return;
      save.disabled = true;
      this.wrong.textContent = "";
      try {
        for (let from = 0; from < ids.length; from += LABELLED_AT_ONCE) {
          await sendJson("POST", "labels", { label, segments: ids.slice(from, from + LABELLED_AT_ONCE) });
          this.said.textContent = t("map.labelled", { n: count(Math.min(ids.length, from + LABELLED_AT_ONCE)), label });
        }
        this.events.labelled();
      } catch (error) {
        this.fail(error);
      } finally {
        save.disabled = false;
      }
    };
    return h("form", { class: "joined", submit: (event) => void submit(event) }, name, suggestions, save);
  }

  /** Saves the list as CSV. */
  private async save(): Promise<void> {
    const { points } = this;
    try {
      const names = await fetchValues(points.name, "name");
      const lines = this.chosen.map((point) => {
        const { emotion, emotion_score } = emotionOf(points, point);
        return [
          idOf(points, point), `call:${points.recordings[point]}`, names.values[names.codes[point]!] ?? "",
          points.channel[point] === points.absent ? "" : points.channel[point],
          points.start_s[point]!.toFixed(2), points.end_s[point]!.toFixed(2), emotion ?? "", emotion_score?.toFixed(2) ?? "",
          points.labels[points.label[point]!] ?? "", points.cluster[point]! < 0 ? "" : points.cluster[point],
        ];
      });
      const head = ["id", "recording", "name", "channel", "start_s", "end_s", "emotion", "emotion_score", "label", "cluster"];
      saveCsv(`${points.name}.csv`, [head, ...lines]);
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    this.wrong.textContent = sayError(error);
  }
}

export function emotionOf(points: Points, point: number): { emotion: string | null; emotion_score: number | null; scores: Record<string, number> } {
  const emotion = points.emotions[points.emotion[point]!] ?? null;
  const score = points.emotion_score[point]!;
  return { emotion, emotion_score: score === points.absent ? null : score / 100, scores: {} };
}
