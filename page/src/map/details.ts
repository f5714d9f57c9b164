// What is known of one point beyond its columns: its call's name, date and words. Asked for when it is looked at.
import { getJson } from "../api";
import type { Recording, Segment } from "../types";
import type { Points } from "./points";

export interface Details {
  name: string;
  text: string | null;
  recorded_at: string;
  scores: Record<string, number>;
}

const AT_ONCE = 4; // the service works on as many
const KEPT = 5000;

const known = new Map<string, Promise<Details>>();
const waiting: { id: string; start: () => Promise<void> }[] = [];
let running = 0;

export function idOf(points: Points, point: number): string {
  return `${points.by === "segment" ? "seg" : "call"}:${points.ids[point]}`;
}

export function soundOf(id: string): string {
  return `${id.startsWith("seg:") ? "segments" : "recordings"}/${id}/audio`;
}

/** The details of a point; the latest that was asked for comes first. */
export function detailsOf(id: string): Promise<Details> {
  let found = known.get(id);
  if (!found) {
    found = new Promise((resolve, reject) => {
      waiting.push({ id, start: () => load(id).then(resolve, reject) });
      void next();
    });
    found.catch(() => known.delete(id));
    known.set(id, found);
    for (const oldest of known.keys()) if (known.size > KEPT) known.delete(oldest);
  }
  return found;
}

async function next(): Promise<void> {
  if (running >= AT_ONCE) return;
  const task = waiting.pop();
  if (!task) return;
  running++;
  await task.start();
  running--;
  void next();
}

async function load(id: string): Promise<Details> {
  const path = `${id.startsWith("seg:") ? "segments" : "recordings"}/${id}`;
  const { segment, recording } = await getJson<{ segment?: Segment; recording: Recording }>(path);
  return { name: recording.name, text: segment?.text ?? null, recorded_at: recording.recorded_at, scores: segment?.scores ?? {} };
}
