// The reader's own clip: dropped, picked or recorded, drawn and played.
import WaveSurfer from "wavesurfer.js";
import RecordPlugin from "wavesurfer.js/plugins/record";

import { byId, clock, h, icon } from "../html";
import { t } from "./words";

const LONGEST_RECORDING_S = 120;

export interface ClipEvents {
  chosen: (clip: File) => void;
  removed: () => void;
  played: () => void;
  failed: (message: string) => void;
}

const drop = byId("drop");
const place = byId("clip");
const choose = byId<HTMLButtonElement>("choose");
const file = byId<HTMLInputElement>("file");
const record = byId<HTMLButtonElement>("record");
const note = byId("record-note");

let events: ClipEvents;
let shown: WaveSurfer | null = null;
let recorder: { plugin: RecordPlugin; surfer: WaveSurfer } | null = null;

export function startClip(told: ClipEvents): void {
  events = told;
  choose.addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const [picked] = file.files ?? [];
    file.value = ""; // so that the same file can be picked once more
    if (picked) events.chosen(picked);
  });
  // anywhere on the page: a file that misses the field would else replace the page
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [dropped] = event.dataTransfer?.files ?? [];
    if (dropped) events.chosen(dropped);
  });
  record.addEventListener("click", () => void (recorder ? stopRecording() : startRecording()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => shown?.setOptions(colours()));
  sayRecording();
}

/** Whether the microphone can be had, and how far a recording is; again when the language changes. */
export function sayRecording(seconds: number | null = null): void {
  let reason = "";
  if (!window.isSecureContext) reason = t("record.insecure");
  else if (!navigator.mediaDevices || typeof MediaRecorder === "undefined") reason = t("record.none");
  record.disabled = reason !== "";
  note.textContent = reason;
  const running = recorder !== null;
  record.classList.toggle("recording", running);
  record.textContent = running ? t("record.stop", { time: clock(seconds ?? 0, 0) }) : t("record.start");
}

/** Shows a clip with its waveform; null shows none. */
export function showClip(clip: File | null, name = clip?.name ?? ""): void {
  discard();
  place.hidden = clip === null;
  drop.classList.toggle("filled", clip !== null);
  if (clip === null) {
    place.replaceChildren();
    return;
  }
  const play = h("button", { type: "button", class: "play", "aria-label": t("hit.play", { what: name }) }, icon("play"));
  const remove = h(
    "button",
    { type: "button", class: "plain round", "aria-label": t("reference.remove"), title: t("reference.remove"), click: () => events.removed() },
    icon("remove"),
  );
  const length = h("span", { class: "quiet" });
  const canvas = h("div", { class: "canvas" });
  place.replaceChildren(h("div", { class: "line" }, play, h("span", { class: "name" }, name), length, remove), canvas);
  const surfer = surferIn(canvas, []);
  shown = surfer;
  surfer.on("ready", (seconds) => {
    length.textContent = clock(seconds);
  });
  surfer.on("error", () => {
    play.disabled = true;
    canvas.replaceChildren(h("p", { class: "note" }, t("reference.undrawn")));
  });
  const drawn = (playing: boolean) => (): void => {
    play.replaceChildren(icon(playing ? "pause" : "play"));
    play.setAttribute("aria-label", t(playing ? "hit.pause" : "hit.play", { what: name }));
    if (playing) events.played();
  };
  surfer.on("play", drawn(true));
  surfer.on("pause", drawn(false));
  play.addEventListener("click", () => void surfer.playPause());
  // what goes wrong is told by "error" too, unless this clip has been replaced meanwhile
  surfer.loadBlob(clip).catch(() => undefined);
}

export function pauseClip(): void {
  shown?.pause();
}

async function startRecording(): Promise<void> {
  events.played();
  showClip(null);
  const canvas = h("div", { class: "canvas" });
  place.hidden = false;
  place.replaceChildren(canvas);
  const plugin = RecordPlugin.create({ scrollingWaveform: true, renderRecordedAudio: false });
  recorder = { plugin, surfer: surferIn(canvas, [plugin]) };
  drop.classList.add("filled");
  plugin.on("record-progress", (ms) => {
    if (recorder?.plugin !== plugin) return;
    sayRecording(ms / 1000);
    if (ms >= LONGEST_RECORDING_S * 1000) stopRecording();
  });
  plugin.on("record-end", (blob) => {
    endRecording();
    const kind = blob.type.split(";")[0] || "audio/webm";
    events.chosen(new File([blob], `${t("reference.recording")}.${kind.split("/")[1]}`, { type: kind }));
  });
  try {
    await plugin.startRecording();
    sayRecording(0);
  } catch (error) {
    endRecording();
    events.failed(t("record.refused", { why: error instanceof Error ? error.message : String(error) }));
  }
}

function stopRecording(): void {
  recorder?.plugin.stopRecording();
}

function endRecording(): void {
  recorder?.plugin.stopMic();
  recorder?.surfer.destroy();
  recorder = null;
  showClip(null);
  sayRecording();
}

function discard(): void {
  shown?.destroy();
  shown = null;
}

/**
 * A WaveSurfer that a strict Content-Security-Policy lets be.
 *
 * WaveSurfer writes a <style> into its shadow root, which style-src 'self' refuses. Made in an element that is not yet
 * in the page, that style is never applied; the same text as a constructed style sheet is allowed.
 */
function surferIn(canvas: HTMLElement, plugins: RecordPlugin[]): WaveSurfer {
  const aside = h("div");
  const surfer = WaveSurfer.create({
    container: aside,
    height: 56,
    barWidth: 2,
    barGap: 2,
    barRadius: 2,
    barMinHeight: 1,
    cursorWidth: 1,
    normalize: plugins.length === 0,
    hideScrollbar: true,
    dragToSeek: true,
    plugins,
    ...colours(),
  });
  const shadow = [...aside.children].find((child) => child.shadowRoot)?.shadowRoot;
  const style = shadow?.querySelector("style");
  if (shadow && style) {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style.textContent ?? "");
    style.remove();
    shadow.adoptedStyleSheets = [sheet];
  }
  canvas.replaceChildren(aside);
  return surfer;
}

function colours(): { waveColor: string; progressColor: string; cursorColor: string } {
  const style = getComputedStyle(document.documentElement);
  const named = (name: string): string => style.getPropertyValue(name).trim();
  return { waveColor: named("--wave"), progressColor: named("--accent"), cursorColor: named("--accent") };
}
