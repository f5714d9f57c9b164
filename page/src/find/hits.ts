// The ranked list: one row a hit, with its waveform, its sound and its label.
import { getJson, sendJson } from "../api";
import { byId, h, icon, span } from "../html";
import { emotionTag } from "../emotion";
import { percent } from "../language";
import { t } from "./words";
import { fetchSound, onPlaying, seek, toggle, type Playing } from "../player";
import { addressOf, go } from "../router";
import type { By, Hit } from "../types";
import { BARS, peaksOf, Waveform } from "../waveform";
import { rare, reasons, shareOf } from "./why";

const CONTEXT_S = 5;
const METADATA_SHOWN = 6;
const CHANCE = 50; // percentile of a pair of segments that is like any other

export interface HitEvents {
  more: (segment: string) => void;
  labelled: (said: string) => void;
  failed: (error: unknown) => void;
}

const list = byId<HTMLOListElement>("hits");

let events: HitEvents;
let rows: Row[] = [];
let chosen = -1;

export function startHits(told: HitEvents): void {
  events = told;
  onPlaying((playing) => rows.forEach((row) => row.follow(playing)));
}

/** Shows hits, best first, in place of those before. */
export function showHits(hits: readonly Hit[], by: By): void {
  seen.disconnect();
  chosen = -1;
  rows = hits.map((hit, index) => new Row(hit, index, by));
  list.replaceChildren(...rows.map((row) => row.element));
  const beyond = hits.findLastIndex(({ percentile }) => percentile === null || percentile >= CHANCE) + 1;
  rows[beyond]?.element.prepend(h("p", { class: "note beyond" }, t("hit.beyond")));
  rows.forEach((row) => seen.observe(row.wave.element));
  rows[0]?.article.setAttribute("tabindex", "0");
}

/** Chooses the row `step` further down, and moves the focus to it. */
export function move(step: 1 | -1): void {
  const next = Math.min(rows.length - 1, Math.max(0, chosen + step));
  rows[next]?.article.focus();
}

/** Plays or pauses the chosen row, the first where none is. */
export function playChosen(): void {
  const row = rows[Math.max(0, chosen)];
  if (!row) return;
  row.article.focus();
  row.play();
}

/** Searches for more like the chosen row, if there is one. */
export function moreLikeChosen(): void {
  const row = rows[chosen];
  if (row) events.more(row.hit.segment);
}

/** Opens the call of the chosen row, if there is one. */
export function openChosen(): void {
  const row = rows[chosen];
  if (row) go(callOf(row.hit));
}

function choose(index: number): void {
  rows[chosen]?.mark(false);
  chosen = index;
  rows[chosen]?.mark(true);
}

// peaks are asked for as a row comes near the window
const seen = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      void rows.find((row) => row.wave.element === target)?.draw();
    }
  },
  { rootMargin: "200px" },
);

class Row {
  readonly element: HTMLLIElement;
  readonly article: HTMLElement;
  readonly wave: Waveform;
  private readonly what: string;
  private readonly button: HTMLButtonElement;
  private readonly tags = h("div", { class: "tags" });
  private context = false;
  private on = false;

  constructor(
    readonly hit: Hit,
    index: number,
    by: By,
  ) {
    this.what = `${hit.name}, ${span(hit.start_s, hit.end_s)}`;
    this.wave = new Waveform(t("hit.wave", { what: this.what }), (share) => {
      void seek(this.sound(), share).catch(events.failed);
    });
    this.button = h("button", { type: "button", class: "play", click: () => this.play() }, icon("play"));
    this.drawTags();
    const context = h(
      "button",
      { type: "button", "aria-pressed": "false", title: t("hit.context.long"), click: () => void this.toggleContext(context) },
      t("hit.context"),
    );
    const title = `hit-${index}`;
    this.article = h(
      "article",
      { class: "hit", tabindex: -1, "aria-labelledby": title, focusin: () => choose(index) },
      h(
        "header",
        {},
        h("span", { class: "rank" }, String(index + 1)),
        h("h3", { id: title, title: hit.uri }, h("a", { href: callOf(hit), class: "call" }, hit.name)),
        h("span", { class: "span" }, span(hit.start_s, hit.end_s)),
        h("span", { class: "quiet" }, t("hit.channel", { n: hit.channel })),
        score(hit, by),
      ),
      h("div", { class: "heard" }, this.button, this.wave.element),
      hit.text ? h("p", { class: "text" }, `“${hit.text}”`) : null,
      reasons(hit),
      h(
        "footer",
        {},
        h(
          "div",
          { class: "about" },
          this.tags,
          affect(hit),
          h("span", { class: "quiet ids" }, `${hit.recording} ${hit.segment}`),
          metadata(hit),
        ),
        h(
          "div",
          { class: "buttons" },
          context,
          h("button", { type: "button", click: () => this.editLabel() }, t("hit.label")),
          h("button", { type: "button", class: "more", click: () => events.more(hit.segment) }, t("hit.more")),
        ),
      ),
    );
    this.element = h("li", {}, this.article);
    this.say();
  }

  play(): void {
    void toggle(this.sound()).catch(events.failed);
  }

  mark(is: boolean): void {
    this.article.setAttribute("tabindex", is ? "0" : "-1");
    if (is) this.article.setAttribute("aria-current", "true");
    else this.article.removeAttribute("aria-current");
  }

  follow({ path, at_s, duration_s, on }: Playing): void {
    const mine = path === this.sound();
    if (mine || this.on) this.wave.at(mine && duration_s > 0 && at_s < duration_s ? at_s / duration_s : 0);
    if (this.on !== (mine && on)) {
      this.on = mine && on;
      this.say();
    }
  }

  /** Draws the segment from the service's peaks, or, with context, from the sound itself. */
  async draw(): Promise<void> {
    const { segment, start_s, end_s } = this.hit;
    const context = this.context;
    try {
      if (!context) {
        const { peaks } = await getJson<{ peaks: number[] }>(`segments/${segment}/peaks?n=${BARS}`);
        if (!this.context) this.wave.draw(peaks);
        return;
      }
      const { peaks, duration_s } = await peaksOf((await fetchSound(this.sound())).blob);
      const before_s = Math.min(CONTEXT_S, start_s);
      if (this.context) this.wave.draw(peaks, [before_s / duration_s, (before_s + end_s - start_s) / duration_s]);
    } catch (error) {
      this.wave.element.classList.add("missing");
      if (context) events.failed(error); // the list itself stays useful without its pictures
    }
  }

  private sound(): string {
    return `segments/${this.hit.segment}/audio${this.context ? `?context_s=${CONTEXT_S}` : ""}`;
  }

  private say(): void {
    this.button.replaceChildren(icon(this.on ? "pause" : "play"));
    this.button.setAttribute("aria-label", t(this.on ? "hit.pause" : "hit.play", { what: this.what }));
  }

  private async toggleContext(button: HTMLButtonElement): Promise<void> {
    const playing = this.on;
    this.context = !this.context;
    button.setAttribute("aria-pressed", String(this.context));
    this.wave.at(0);
    if (playing) this.play();
    await this.draw();
  }

  private drawTags(): void {
    const { hit } = this;
    const mine = hit.label !== null && hit.label_score === 1;
    const remove = h(
      "button",
      { type: "button", class: "plain round", click: () => void this.unlabel(), "aria-label": t("hit.label.remove", { label: hit.label ?? "" }) },
      icon("remove"),
    );
    const said = mine ? t("hit.yours", { label: hit.label ?? "" }) : `${hit.label} ${percent(hit.label_score ?? 0)}`;
    const label = hit.label === null ? null : h("span", { class: "tag own" }, said, mine ? remove : null);
    this.tags.replaceChildren(emotionTag(hit), ...(label ? [label] : []));
  }

  private editLabel(): void {
    const name = h("input", {
      name: "label",
      list: "labels",
      required: true,
      maxlength: 64,
      placeholder: t("hit.label.example"),
      "aria-label": t("hit.label.name"),
    });
    const form = h(
      "form",
      { class: "joined label", submit: (event) => void this.label(event, name.value.trim()) },
      name,
      h("button", { class: "strong" }, t("hit.label.save")),
      h("button", { type: "button", click: () => this.closeLabel() }, t("cancel")),
    );
    form.addEventListener("keydown", (event) => event.key === "Escape" && this.closeLabel());
    this.article.querySelector("form")?.remove();
    this.article.append(form);
    name.focus();
  }

  private closeLabel(): void {
    this.article.querySelector("form")?.remove();
    this.article.focus();
  }

  private async label(event: Event, label: string): Promise<void> {
    event.preventDefault();
    if (!label) return;
    const { segment } = this.hit;
    await this.change(label, "hit.labelled", label, () =>
      sendJson("POST", "labels", { label, segments: [segment] }),
    );
  }

  private async unlabel(): Promise<void> {
    const { segment, label } = this.hit;
    if (label === null) return;
    await this.change(null, "hit.unlabelled", label, () =>
      sendJson("DELETE", `labels/${encodeURIComponent(label)}?segment=${segment}`),
    );
  }

  private async change(
    to: string | null,
    word: "hit.labelled" | "hit.unlabelled",
    label: string,
    send: () => Promise<unknown>,
  ): Promise<void> {
    try {
      await send();
    } catch (error) {
      events.failed(error);
      return;
    }
    Object.assign(this.hit, { label: to, label_score: to === null ? null : 1 });
    this.drawTags();
    this.closeLabel();
    events.labelled(t(word, { segment: this.hit.segment, label }));
  }
}

/** How excited and how pleasant it is, where the encoder's classes tell. */
function affect({ arousal, valence }: Hit): HTMLElement | null {
  if (arousal === null || valence === null) return null;
  const said = t("hit.affect", { arousal: arousal.toFixed(2), valence: valence.toFixed(2) });
  return h("span", { class: "quiet affect", title: t("hit.affect.long") }, said);
}

/** The call as a whole, at the segment that was found. */
function callOf({ recording, segment }: Hit): string {
  return addressOf("calls", { id: recording, search: { segment } });
}

function score(hit: Hit, by: By): HTMLElement {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${Math.max(0, hit.score) * 100}%`;
  const apart = by === "recording" && Math.abs(hit.score - hit.segment_score) >= 0.0005;
  const { percentile } = hit;
  const nearer = percentile === null ? "" : percentile >= 100 ? t("hit.rare.all") : t("hit.rare", { share: shareOf(percentile) });
  return h(
    "span",
    { class: "score", title: t("hit.score", { score: hit.score.toFixed(4) }) },
    apart ? h("span", { class: "quiet" }, t("hit.segment", { score: hit.segment_score.toFixed(3) })) : null,
    h("span", { class: "bar", "aria-hidden": "true" }, fill),
    h("strong", {}, hit.score.toFixed(3)),
    percentile === null ? null : h("span", { class: "quiet rare", title: rare(percentile) }, nearer),
  );
}

function metadata(hit: Hit): HTMLElement {
  const pairs = Object.entries(hit.metadata);
  const shown = pairs.slice(0, METADATA_SHOWN).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)));
  return h("dl", { class: "metadata", title: pairs.map((pair) => pair.join(": ")).join("\n") }, ...shown);
}
