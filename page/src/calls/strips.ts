// A call over time: a strip for each channel, coloured by emotion, with silence, overlap, turning points and probabilities.
import { swatch } from "../emotion";
import { clock, h, span, svg } from "../html";
import { emotionName, percent } from "../language";
import type { ChannelTimeline, Segment, Timeline } from "../types";
import { fewer } from "../waveform";
import { roleName } from "./roles";
import { t } from "./words";

const BAR_PX = 3; // a line of two and a gap
const HEIGHT = 100; // of a strip, in its own units
const SILENT = 0.02; // a peak below -34 dB of full scale is drawn as low as it is
const NAME_PX = 44; // a narrower segment has no room for its emotion's name
const TICK_PX = 90; // between two times, at least
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
const WIDEST_PX = 20_000;

/** What was clicked: a time, in a segment or beside all of them. */
export type Clicked = (at_s: number, segment: Segment | null, event: MouseEvent) => void;

export class Strips {
  readonly element: HTMLElement;
  private readonly track = h("div", { class: "track" });
  private readonly scroller = h("div", { class: "scroller", tabindex: 0, role: "group", "aria-label": t("calls.strips") }, this.track);
  private readonly playhead = h("div", { class: "playhead", "aria-hidden": "true" });
  private readonly larger = this.zoomer("+", t("calls.zoom.in"), 2);
  private readonly smaller = this.zoomer("−", t("calls.zoom.out"), 0.5);
  private readonly rects = new Map<string, SVGElement>();
  private peaks: number[][] = [];
  private zoom = 1;
  private drawnWidth = 0;

  constructor(
    private readonly timeline: Timeline,
    private readonly matched: ReadonlySet<string>,
    private readonly clicked: Clicked,
  ) {
    this.element = h("section", { class: "card strips", "aria-label": t("calls.strips") }, this.scroller, this.foot());
    this.track.addEventListener("click", (event) => this.click(event));
    new ResizeObserver(() => {
      if (Math.abs(this.track.clientWidth - this.drawnWidth) > 1) this.draw();
    }).observe(this.track);
  }

  /** Draws the waveforms; without peaks the segments alone. */
  show(peaks: number[][]): void {
    this.peaks = peaks;
    this.draw();
  }

  /** Moves the line that says where the sound is, and keeps it in sight while it plays. */
  at(seconds: number, follow: boolean): void {
    const share = seconds / this.timeline.recording.duration_s;
    this.playhead.style.left = `${share * 100}%`;
    const { scrollLeft, clientWidth } = this.scroller;
    const x = share * this.track.clientWidth;
    if (follow && this.zoom > 1 && (x < scrollLeft || x > scrollLeft + clientWidth * 0.9)) this.scroller.scrollLeft = x - clientWidth * 0.1;
  }

  choose(current: string | null, selected: ReadonlySet<string>): void {
    for (const [id, rect] of this.rects) {
      rect.classList.toggle("current", id === current);
      rect.classList.toggle("selected", selected.has(id));
    }
  }

  private zoomer(sign: string, label: string, factor: number): HTMLButtonElement {
    return h("button", { type: "button", class: "round", "aria-label": label, title: label, click: () => this.zoomBy(factor) }, sign);
  }

  private zoomBy(factor: number): void {
    const { scroller, track } = this;
    const middle = (scroller.scrollLeft + scroller.clientWidth / 2) / track.clientWidth;
    this.zoom = Math.max(1, this.zoom * factor);
    track.style.width = `${this.zoom * 100}%`;
    this.draw();
    scroller.scrollLeft = middle * track.clientWidth - scroller.clientWidth / 2;
  }

  private click(event: MouseEvent): void {
    const box = this.track.getBoundingClientRect();
    const at_s = ((event.clientX - box.left) / box.width) * this.timeline.recording.duration_s;
    const channel = (event.target as Element).closest<HTMLElement>("[data-channel]")?.dataset["channel"];
    const within = ({ start_s, end_s }: Segment): boolean => start_s <= at_s && at_s < end_s;
    const segment = this.timeline.channels[Number(channel ?? NaN)]?.segments.find(within) ?? null;
    this.clicked(Math.max(0, at_s), segment, event);
  }

  // ----------------------------------------------------------------------------------------------------- drawing

  private draw(): void {
    const { timeline, track } = this;
    const width = (this.drawnWidth = track.clientWidth);
    if (width === 0) return;
    this.larger.disabled = width * 2 > WIDEST_PX;
    this.smaller.disabled = this.zoom === 1;
    const chosen = [...this.rects].map(([id, rect]) => [id, rect.getAttribute("class") ?? ""] as const);
    this.rects.clear();
    const told = timeline.channels.filter((each) => each.segments.some(({ scores }) => Object.keys(scores).length));
    track.replaceChildren(
      this.times(width),
      this.bands(),
      ...timeline.channels.map((channel) => this.strip(channel, width)),
      ...told.map((channel) => this.probabilities(channel, told.length > 1)),
      ...timeline.summary.turning_points.map((point) => {
        const said = t(`calls.turn.${point.direction}`);
        return placed(h("div", { class: `turn ${point.direction}`, "aria-hidden": "true", title: `${clock(point.at_s)} ${said}` }, h("span", {}, said)), point.at_s, null, timeline.recording.duration_s);
      }),
      this.playhead,
    );
    for (const [id, name] of chosen) this.rects.get(id)?.setAttribute("class", name);
  }

  private times(width: number): HTMLElement {
    const { duration_s } = this.timeline.recording;
    const step = TICKS_S.find((each) => (each / duration_s) * width >= TICK_PX) ?? 3600;
    const ticks = Array.from({ length: Math.floor(duration_s / step - 0.3) + 1 }, (_, at) =>
      placed(h("span", {}, clock(at * step, 0)), at * step, null, duration_s),
    );
    return h("div", { class: "times", "aria-hidden": "true" }, ...ticks);
  }

  /** Where nobody speaks, and where several do at once. */
  private bands(): HTMLElement {
    const { recording, dynamics } = this.timeline;
    const band = (kind: "silence" | "overlap") => ([start_s, end_s]: [number, number]) =>
      placed(h("div", { class: kind, title: `${t(`calls.${kind}`)} ${span(start_s, end_s)}` }), start_s, end_s, recording.duration_s);
    return h(
      "div",
      { class: "bands", "aria-hidden": "true" },
      ...(dynamics?.silences ?? []).map(band("silence")),
      ...(dynamics?.overlaps ?? []).map(band("overlap")),
    );
  }

  private strip(channel: ChannelTimeline, width: number): HTMLElement {
    const { duration_s } = this.timeline.recording;
    const spoken = channel.analysed ? t("calls.speech", { time: clock(channel.speech_s, 0) }) : t("calls.unanalysed");
    const said = `${roleName(channel.role, channel.channel)}: ${spoken}`;
    const rects = channel.segments.map((each) => this.rect(each));
    const picture = svg(
      "svg",
      { viewBox: `0 0 ${duration_s} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": said },
      ...rects,
      ...this.wave(channel, width),
    );
    const wide = (each: Segment): boolean => ((each.end_s - each.start_s) / duration_s) * width >= NAME_PX;
    const names = channel.segments.filter((each) => each.emotion !== null && wide(each)).map((each) =>
      placed(h("span", { title: about(each) }, emotionName(each.emotion!)), each.start_s, each.end_s, duration_s),
    );
    const marks = channel.segments.filter(({ id }) => this.matched.has(id)).map((each) =>
      placed(h("span", { class: "matched", title: t("calls.matched") }, "◆"), (each.start_s + each.end_s) / 2, null, duration_s),
    );
    return h(
      "div",
      { class: channel.analysed ? "strip" : "strip unanalysed", "data-channel": channel.channel },
      h("p", { class: "caption" }, h("strong", {}, roleName(channel.role, channel.channel)), ` ${spoken}`),
      h("div", { class: "wave" }, picture, ...marks),
      channel.analysed ? h("div", { class: "names", "aria-hidden": "true" }, ...names) : null,
    );
  }

  private rect(segment: Segment): SVGElement {
    const { start_s, end_s, id, emotion, emotion_score } = segment;
    const of = { x: start_s, y: 0, width: end_s - start_s, height: HEIGHT };
    const inner = svg("title", {}, document.createTextNode(about(segment)));
    const ground = svg("rect", { ...of, class: "ground" }, inner);
    ground.style.setProperty("--confidence", String(emotion_score ?? 0));
    const found = svg("g", { "data-emotion": emotion ?? "" }, ground, svg("rect", { ...of, class: "frame" }));
    this.rects.set(id, found);
    return found;
  }

  /** One path for each segment, in its colour, and a grey one for what is between them. */
  private wave(channel: ChannelTimeline, width: number): SVGElement[] {
    const peaks = this.peaks[channel.channel] ?? [];
    if (!peaks.length) return [];
    const drawn = fewer(peaks, Math.floor(width / BAR_PX));
    const each_s = (this.timeline.recording.duration_s * Math.ceil(peaks.length / drawn.length)) / peaks.length;
    const loudest = Math.max(SILENT, ...drawn);
    const paths = new Map<Segment | null, string[]>();
    let next = 0;
    drawn.forEach((peak, at) => {
      const x = (at + 0.5) * each_s;
      while (next < channel.segments.length && channel.segments[next]!.end_s <= x) next++;
      const segment = channel.segments[next];
      const key = segment && segment.start_s <= x ? segment : null;
      const tall = Math.max(1, (peak / loudest) * (HEIGHT / 2 - 8));
      const path = paths.get(key) ?? [];
      path.push(`M${x.toFixed(3)} ${(HEIGHT / 2 - tall).toFixed(1)}V${(HEIGHT / 2 + tall).toFixed(1)}`);
      paths.set(key, path);
    });
    return [...paths].map(([segment, path]) => svg("path", { d: path.join(""), "data-emotion": segment?.emotion ?? "", class: segment ? "inside" : "context" }));
  }

  /** The probabilities of each segment's emotions, stacked. */
  private probabilities(channel: ChannelTimeline, several: boolean): HTMLElement {
    const { duration_s } = this.timeline.recording;
    const picture = svg("svg", { viewBox: `0 0 ${duration_s} 1`, preserveAspectRatio: "none", role: "img", "aria-label": t("calls.probabilities.long") });
    for (const segment of channel.segments) {
      let y = 1;
      const stack = svg("g", {}, svg("title", {}, document.createTextNode(about(segment))));
      for (const [emotion, score] of Object.entries(segment.scores)) {
        y -= score;
        stack.append(svg("rect", { x: segment.start_s, y, width: segment.end_s - segment.start_s, height: score, "data-emotion": emotion }));
      }
      picture.append(stack);
    }
    const of = several ? `: ${roleName(channel.role, channel.channel)}` : "";
    return h("div", { class: "probabilities", "data-channel": channel.channel }, h("p", { class: "caption" }, `${t("calls.probabilities")}${of}`), picture);
  }

  /** What the colours and marks mean, in words, and the zoom. */
  private foot(): HTMLElement {
    const segments = this.timeline.channels.flatMap((each) => each.segments);
    const named = new Set(segments.flatMap(({ emotion, scores }) => [...Object.keys(scores), ...(emotion === null ? [] : [emotion])]));
    const key = (kind: string, said: string): HTMLElement => h("span", { class: "tag" }, h("span", { class: `key ${kind}`, "aria-hidden": "true" }), said);
    const { dynamics } = this.timeline;
    return h(
      "div",
      { class: "foot" },
      h(
        "div",
        { class: "tags", role: "group", "aria-label": t("calls.legend") },
        ...[...named].map((emotion) => swatch(emotion)),
        dynamics?.silences.length ? key("silence", t("calls.silence")) : null,
        dynamics?.overlaps.length ? key("overlap", t("calls.overlap")) : null,
        this.matched.size ? h("span", { class: "tag" }, h("span", { class: "matched", "aria-hidden": "true" }, "◆"), t("calls.matched")) : null,
      ),
      h("div", { class: "buttons" }, this.smaller, this.larger),
    );
  }
}

/** A segment's emotion with its probabilities, for a pointer that rests on it. */
function about({ start_s, end_s, emotion, scores }: Segment): string {
  const ranked = Object.entries(scores).sort(([, a], [, b]) => b - a);
  const lines = ranked.map(([name, score]) => `${emotionName(name)} ${percent(score)}`);
  return [`${span(start_s, end_s)}${emotion === null ? "" : ` ${emotionName(emotion)}`}`, ...lines].join("\n");
}

function placed<E extends HTMLElement>(element: E, start_s: number, end_s: number | null, duration_s: number): E {
  element.style.left = `${(start_s / duration_s) * 100}%`;
  if (end_s !== null) element.style.width = `${((end_s - start_s) / duration_s) * 100}%`;
  return element;
}
