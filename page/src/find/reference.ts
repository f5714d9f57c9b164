// What is searched for where it is not a clip: a stored segment or call, an emotion, a label.
import { getJson } from "../api";
import { emotionTag, swatch } from "../emotion";
import { byId, clock, h, icon, span } from "../html";
import { onPlaying, seek, toggle } from "../player";
import type { Recording, Segment } from "../types";
import { BARS, Waveform } from "../waveform";
import { t } from "./words";

const LONGEST_PLAYED_S = 600; // a call is fetched whole before it plays; ten minutes of stereo are 38 MB

const place = byId("stored");
const drop = byId("drop");

export interface ReferenceEvents {
  removed: () => void;
  failed: (error: unknown) => void;
}

let events: ReferenceEvents;
let shown = "";
let follow: Parameters<typeof onPlaying>[0] = () => undefined;

export function startReference(told: ReferenceEvents): void {
  events = told;
  onPlaying((playing) => follow(playing));
}

/** Shows the references of a query, each as what it is; none hides the card. */
export async function showReferences(references: readonly string[]): Promise<void> {
  shown = references.join();
  follow = () => undefined;
  place.hidden = references.length === 0;
  drop.classList.toggle("stored", references.length > 0);
  place.replaceChildren(h("div", { class: "line" }, ...references.map(named), remover()));
  const [reference] = references;
  if (references.length !== 1 || !/^(seg|call):\d+$/.test(reference ?? "")) return;
  try {
    const card = reference!.startsWith("seg:") ? await segmentCard(reference!) : await callCard(reference!);
    if (shown !== reference) return;
    place.replaceChildren(...card.elements);
    follow = card.follow;
  } catch {
    // the search itself says what is wrong with an id
  }
}

function named(reference: string): HTMLElement {
  const [kind, ...rest] = reference.split(":");
  const name = rest.join(":");
  return kind === "emotion" ? swatch(name) : h("span", { class: "name" }, kind === "label" ? name : reference);
}

function remover(): HTMLElement {
  const label = t("reference.remove");
  const click = (): void => events.removed();
  return h("button", { type: "button", class: "plain round remover", "aria-label": label, title: label, click }, icon("remove"));
}

interface Card {
  elements: HTMLElement[];
  follow: typeof follow;
}

async function segmentCard(id: string): Promise<Card> {
  const { segment, recording } = await getJson<{ segment: Segment; recording: Recording }>(`segments/${id}`);
  const about = [
    h("span", {}, span(segment.start_s, segment.end_s)),
    h("span", {}, t("hit.channel", { n: segment.channel })),
    emotionTag(segment),
  ];
  return playable(id, recording.name, about, `segments/${id}`);
}

async function callCard(id: string): Promise<Card> {
  const { recording } = await getJson<{ recording: Recording }>(`recordings/${id}`);
  const length = h("span", {}, clock(recording.duration_s));
  if (recording.duration_s <= LONGEST_PLAYED_S) return playable(id, recording.name, [length], `recordings/${id}`);
  const about = h("p", { class: "line quiet" }, ident(id), length, t("reference.long"));
  return { elements: [title(recording.name), about], follow: () => undefined };
}

function title(name: string): HTMLElement {
  return h("div", { class: "line" }, h("span", { class: "name" }, t("reference.stored", { name })), remover());
}

function ident(id: string): HTMLElement {
  return h("span", { class: "ids" }, id);
}

async function playable(
  id: string,
  name: string,
  about: HTMLElement[],
  path: string,
): Promise<Card> {
  const sound = `${path}/audio`;
  const wave = new Waveform(t("hit.wave", { what: name }), (share) => void seek(sound, share).catch(events.failed));
  const play = h("button", { type: "button", class: "play", click: () => void toggle(sound).catch(events.failed) });
  const say = (on: boolean): void => {
    play.replaceChildren(icon(on ? "pause" : "play"));
    play.setAttribute("aria-label", t(on ? "hit.pause" : "hit.play", { what: name }));
  };
  say(false);
  const { peaks } = await getJson<{ peaks: number[] | number[][] }>(`${path}/peaks?n=${BARS / 2}`);
  wave.draw(loudest(peaks));
  const elements = [
    title(name),
    h("p", { class: "line quiet" }, ident(id), ...about),
    h("div", { class: "heard" }, play, wave.element),
  ];
  return {
    elements,
    follow: ({ path: playing, at_s, duration_s, on }) => {
      const mine = playing === sound;
      wave.at(mine && duration_s > 0 && at_s < duration_s ? at_s / duration_s : 0);
      say(mine && on);
    },
  };
}

/** Peaks of a call come one list a channel: its picture shows the louder. */
function loudest(peaks: number[] | number[][]): number[] {
  const channels = peaks.every((each) => typeof each === "number") ? [peaks as number[]] : (peaks as number[][]);
  return (channels[0] ?? []).map((_, index) => Math.max(...channels.map((channel) => channel[index] ?? 0)));
}
