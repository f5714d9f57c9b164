// One audio element for the whole page.
//
// Sounds are fetched, not streamed: an <audio> element cannot send the API key. A segment is a few hundred kilobytes.
import { request } from "./api";
import { byId } from "./html";

const KEPT_SOUNDS = 32; // of some 10 s at 16 kHz and 16 bits: about 10 MB

interface Sound {
  blob: Blob;
  url: string;
}

/** What listeners are told: which sound is at hand, how far it is, and whether it can be heard now. */
export interface Playing {
  path: string;
  at_s: number;
  duration_s: number; // 0 until it is known
  on: boolean;
}

type Listener = (playing: Playing) => void;

const audio = byId<HTMLAudioElement>("audio");
const sounds = new Map<string, Promise<Sound>>(); // in order of last use
const listeners = new Set<Listener>();
let path = "";
let loading = Promise.resolve();
let asked = 0; // counts what was asked for, pauses too: what comes later than the next of these is not played

export function onPlaying(listener: Listener): void {
  listeners.add(listener);
}

/** The sound at `path`, fetched once. */
export async function fetchSound(path: string): Promise<Sound> {
  let sound = sounds.get(path);
  if (sound) sounds.delete(path);
  sound ??= request(path)
    .then((response) => response.blob())
    .then((blob) => ({ blob, url: URL.createObjectURL(blob) }));
  sounds.set(path, sound);
  sound.catch(() => sounds.delete(path));
  for (const [oldest, old] of sounds) {
    if (sounds.size <= KEPT_SOUNDS) break;
    sounds.delete(oldest);
    void old.then(({ url }) => url !== audio.src && URL.revokeObjectURL(url));
  }
  return sound;
}

/** Plays the sound at `wanted`, from where it was paused; pauses it if it plays. */
export async function toggle(wanted: string): Promise<void> {
  if (path === wanted && !audio.paused) {
    pause();
    return;
  }
  const mine = ++asked;
  await load(wanted);
  if (mine === asked) await start();
}

/** Goes on from `share` (0 to 1) of the sound at `wanted`, in whatever state it was. */
export async function seek(wanted: string, share: number): Promise<void> {
  const mine = ++asked;
  await load(wanted);
  if (mine !== asked) return;
  if (audio.readyState < HTMLMediaElement.HAVE_METADATA) {
    await new Promise((resolve) => audio.addEventListener("loadedmetadata", resolve, { once: true }));
    if (mine !== asked) return;
  }
  audio.currentTime = share * audio.duration;
  await start();
}

/** Pauses what plays, and what would once it is fetched. */
export function pause(): void {
  asked++;
  audio.pause();
}

function load(wanted: string): Promise<void> {
  if (path !== wanted) {
    path = wanted;
    audio.removeAttribute("src"); // so that what was heard before is not taken for this one while it is fetched
    audio.load();
    loading = fetchSound(wanted).then(
      ({ url }) => {
        if (path === wanted) audio.src = url;
      },
      (error: unknown) => {
        if (path === wanted) path = "";
        throw error;
      },
    );
  }
  return loading;
}

async function start(): Promise<void> {
  try {
    await audio.play();
  } catch (error) {
    // paused, or another sound asked for, before this one had begun
    if (!(error instanceof DOMException && error.name === "AbortError")) throw error;
  }
}

/** What is played now: listeners are told a moment later. */
export function state(): Playing {
  const duration_s = Number.isFinite(audio.duration) ? audio.duration : 0;
  return { path, at_s: audio.currentTime, duration_s, on: !audio.paused };
}

function tell(): void {
  const now = state();
  for (const listener of listeners) listener(now);
}

function follow(): void {
  tell();
  // "timeupdate" comes four times a second: too few for a smooth line
  if (!audio.paused) requestAnimationFrame(follow);
}

audio.addEventListener("play", follow);
for (const event of ["pause", "ended", "seeked", "loadedmetadata"]) audio.addEventListener(event, tell);
