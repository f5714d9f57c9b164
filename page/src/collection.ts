// What the collection holds, asked for once and again when something has changed.
import { getJson } from "./api";
import type { Filters, Status } from "./types";

export interface Holdings {
  filters: Filters;
  status: Status;
}

type Listener = (holdings: Holdings) => void;

const listeners = new Set<Listener>();
let held: Promise<Holdings> | null = null;

/** Calls `listener` with every new answer. */
export function onHoldings(listener: Listener): void {
  listeners.add(listener);
}

/** What can be filtered by, and how much there is; `anew` after a label was given, say. */
export function holdings(anew = false): Promise<Holdings> {
  if (held === null || anew) {
    const asked = Promise.all([getJson<Filters>("filters"), getJson<Status>("status")]);
    const made = asked.then(([filters, status]) => {
      const found = { filters, status };
      listeners.forEach((listener) => listener(found));
      return found;
    });
    held = made;
    made.catch(() => {
      if (held === made) held = null;
    });
  }
  return held;
}
