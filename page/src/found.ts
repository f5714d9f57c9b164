// What the last query found, for the views that show more of it.
import type { Hit } from "./types";

interface Found {
  address: string; // of the query, with what its entry in the history held
  state: unknown;
  segments: Map<string, Map<string, number | null>>; // by call: a segment's score, null where it has none of its own
}

let found: Found | null = null;

export function keepFound(address: string, state: unknown, hits: readonly Hit[]): void {
  const segments: Found["segments"] = new Map();
  for (const hit of hits) {
    const of = segments.get(hit.recording) ?? new Map<string, number | null>();
    for (const match of hit.why?.matches ?? []) of.set(match.segment, Math.max(match.cosine, of.get(match.segment) ?? -1));
    of.set(hit.segment, hit.segment_score);
    segments.set(hit.recording, of);
  }
  found = { address, state, segments };
}

export function lastFound(): Found | null {
  return found;
}
