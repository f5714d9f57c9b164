// One call as a whole: its strips, what was said, how it went, and labels for what is selected.
import { ApiError, getJson } from "../api";
import { holdings } from "../collection";
import { lastFound } from "../found";
import { clock, h, icon } from "../html";
import { addressOf, go, type Params, type View } from "../router";
import { sayError } from "../states";
import type { Recording, Segment, Timeline } from "../types";
import { callFacts } from "./facts";
import { Labelling } from "./labelling";
import { lastList } from "./list";
import { CallSound } from "./sound";
import { Strips } from "./strips";
import { summary } from "./summary";
import { Transcript } from "./transcript";
import { t } from "./words";

const PEAKS_EACH_S = 50; // as fine as the eye can tell when zoomed in
const MOST_PEAKS = 4000; // that the service gives

export async function showCall(container: HTMLElement, id: string, { search, signal }: Params): Promise<View> {
  if (!/^(call:)?\d{1,18}$/.test(id)) throw new ApiError(404, "", "not-stored"); // an address typed by hand
  const [timeline, { filters }] = await Promise.all([getJson<Timeline>(`recordings/${encodeURIComponent(id)}/timeline`, signal), holdings()]);
  signal.throwIfAborted();
  const call = new Call(timeline, filters.labels);
  container.append(...call.elements);
  call.start(search.get("segment"));
  return call.view;
}

class Call {
  readonly elements: HTMLElement[];
  private readonly recording: Recording;
  private readonly segments: Segment[]; // in order of time, whatever their channel
  private readonly selected = new Set<string>();
  private readonly sound: CallSound;
  private readonly strips: Strips;
  private readonly transcript: Transcript;
  private readonly labelling: Labelling;
  private readonly play = h("button", { type: "button", class: "play", click: () => this.sound.toggle() });
  private readonly time = h("span", { class: "clock" });
  private readonly wrong = h("p", { class: "wrong", role: "alert" });
  private current = -1;
  private playing = false;
  private heard = ""; // ids of the segments that sound now

  constructor(
    timeline: Timeline,
    labels: readonly string[],
  ) {
    const { recording, channels } = timeline;
    this.recording = recording;
    this.segments = channels.flatMap((each) => each.segments).sort((a, b) => a.start_s - b.start_s || a.channel - b.channel);
    const matched = lastFound()?.segments.get(recording.id) ?? new Map<string, number | null>();
    this.sound = new CallSound(recording.id, recording.duration_s, () => this.follow(), (error) => (this.wrong.textContent = sayError(error)));
    this.strips = new Strips(timeline, new Set(matched.keys()), (at_s, segment, event) => {
      if (segment) this.clicked(segment, event, at_s);
      else void this.sound.play(at_s);
    });
    this.transcript = new Transcript(this.segments, channels, matched, {
      choose: (segment, event) => this.clicked(segment, event, segment.start_s),
      tick: (segment, event) => this.select(segment, event.shiftKey),
    });
    this.labelling = new Labelling(labels, {
      labelled: (segments) => segments.forEach((each) => this.transcript.retag(each)),
      clear: () => this.clear(),
    });
    const step = (by: 1 | -1, sign: string, said: string): HTMLElement =>
      h("button", { type: "button", class: "round", "aria-label": said, title: said, click: () => this.step(by) }, sign);
    const spoken = this.segments.length > 0;
    this.elements = [
      this.head(),
      h("div", { class: "transport" }, this.play, spoken ? step(-1, "‹", t("calls.previous")) : null, spoken ? step(1, "›", t("calls.next")) : null, this.time, this.wrong),
      this.strips.element,
      h("div", { class: "columns" }, h("div", { class: "column" }, spoken ? this.labelling.element : null, this.transcript.element), summary(timeline, (id) => this.hear(id))),
    ];
  }

  /** Draws what is fetched, and chooses a segment. */
  start(wanted: string | null): void {
    const at = this.segments.findIndex(({ id }) => id === wanted);
    this.choose(at < 0 ? Math.min(0, this.segments.length - 1) : at, at >= 0);
    this.sound.at_s = at < 0 ? 0 : this.segments[at]!.start_s;
    this.follow();
    void this.draw();
  }

  get view(): View {
    const number = (n: number): [string, () => void] => [String(n), () => this.labelling.number(n)];
    return {
      title: this.recording.name,
      keys: {
        " ": () => this.sound.toggle(),
        ArrowRight: (event) => this.step(1, event.shiftKey),
        ArrowLeft: (event) => this.step(-1, event.shiftKey),
        j: () => this.step(1),
        k: () => this.step(-1),
        x: () => this.segments[this.current] && this.select(this.segments[this.current]!),
        Escape: () => this.clear(),
        l: () => this.labelling.focus(),
        Enter: () => this.segments[this.current] && go(addressOf("find", { search: { ref: this.segments[this.current]!.id } })),
        ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7, 8, 9].map(number)),
      },
      help: [
        [[t("keys.space")], t("keys.play")],
        [["←", "→"], t("calls.keys.step")],
        [["⇧ ←", "⇧ →"], t("calls.keys.extend")],
        [["x"], t("calls.keys.select")],
        [["Esc"], t("calls.label.clear")],
        [["1", "…", "9"], t("calls.keys.label")],
        [["l"], t("calls.keys.name")],
        [["Enter"], t("calls.more")],
      ],
      leave: () => this.sound.leave(),
    };
  }

  private async draw(): Promise<void> {
    try {
      const n = Math.max(1, Math.min(MOST_PEAKS, Math.ceil(this.recording.duration_s * PEAKS_EACH_S)));
      const { peaks } = await getJson<{ peaks: number[][] }>(`recordings/${this.recording.id}/peaks?n=${n}`);
      this.strips.show(peaks);
    } catch (error) {
      this.strips.show([]); // what is known of the call stays useful without its sound
      this.wrong.textContent = sayError(error);
    }
  }

  private head(): HTMLElement {
    const { recording } = this;
    const found = lastFound();
    const back = found && h("a", { href: found.address }, t("calls.found"));
    back?.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
      event.preventDefault();
      go(found!.address, found!.state); // with the clip that was searched for
    });
    return h(
      "header",
      { class: "head" },
      h("nav", { class: "line", "aria-label": t("calls.back") }, h("a", { href: lastList() }, t("calls.all")), back),
      h("h2", { title: recording.uri }, recording.name),
      callFacts(recording),
    );
  }

  // ------------------------------------------------------------------------------------------- choosing and hearing

  private clicked(segment: Segment, event: MouseEvent, at_s: number): void {
    const extend = event.shiftKey;
    if (extend || event.ctrlKey || event.metaKey) {
      getSelection()?.removeAllRanges(); // of text, which shift and a click make
      this.select(segment, extend);
      return;
    }
    this.choose(this.segments.indexOf(segment));
    void this.sound.play(at_s);
  }

  private hear(id: string): void {
    const segment = this.segments.find((each) => each.id === id);
    if (!segment) return;
    this.choose(this.segments.indexOf(segment));
    void this.sound.play(segment.start_s);
  }

  private step(by: 1 | -1, extend = false): void {
    const next = Math.min(this.segments.length - 1, Math.max(0, this.current + by));
    const segment = this.segments[next];
    if (!segment) return;
    if (extend) {
      const here = this.segments[this.current];
      for (const each of [here, segment]) if (each) this.selected.add(each.id);
    }
    this.choose(next, true);
    this.sound.move(segment.start_s);
  }

  private choose(at: number, focus = false): void {
    this.current = at;
    this.transcript.choose(this.segments[at]?.id ?? null, focus);
    this.say();
  }

  /** Ticks a segment or takes its tick away; `through` ticks all from the one at hand to it. */
  private select(segment: Segment, through = false): void {
    const at = this.segments.indexOf(segment);
    const from = through ? Math.max(0, this.current) : at;
    if (through) for (const each of this.segments.slice(Math.min(from, at), Math.max(from, at) + 1)) this.selected.add(each.id);
    else if (!this.selected.delete(segment.id)) this.selected.add(segment.id);
    this.choose(at);
  }

  private clear(): void {
    this.selected.clear();
    this.say();
  }

  private say(): void {
    const here = this.segments[this.current];
    const ticked = this.segments.filter(({ id }) => this.selected.has(id));
    this.transcript.tick(this.selected);
    this.strips.choose(here?.id ?? null, this.selected);
    this.labelling.show(ticked.length ? ticked : here ? [here] : [], ticked.length > 0);
  }

  /** Shows where the sound is: the line, the clock, the segment that is heard. */
  private follow(): void {
    const { at_s, on } = this.sound;
    const { duration_s, name } = this.recording;
    this.strips.at(at_s, on);
    this.time.textContent = `${clock(at_s)} / ${clock(duration_s)}`;
    if (on !== this.playing || !this.play.firstChild) {
      this.playing = on;
      this.play.replaceChildren(icon(on ? "pause" : "play"));
      this.play.setAttribute("aria-label", t(on ? "hit.pause" : "hit.play", { what: name }));
    }
    const heard = on ? this.segments.filter((each) => each.start_s <= at_s && at_s < each.end_s) : [];
    const key = heard.map(({ id }) => id).join();
    if (key === this.heard) return;
    this.heard = key;
    this.transcript.now(new Set(heard.map(({ id }) => id)));
    const last = heard.at(-1);
    if (last && !heard.includes(this.segments[this.current]!)) this.choose(this.segments.indexOf(last));
  }
}
