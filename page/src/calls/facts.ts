// What is known of a call beside its sound: when, how long, whose voices, and its metadata.
import { clock, h } from "../html";
import type { Recording } from "../types";
import { roleName } from "./roles";
import { t } from "./words";

export function callFacts(recording: Recording, most = Infinity): HTMLElement {
  const day = recording.recorded_at.slice(0, 10); // a column that says the same is not said again
  const pairs = Object.entries(recording.metadata).filter(([, value]) => value !== day);
  const shown = pairs.slice(0, most).map(([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {}, value)));
  return h(
    "div",
    { class: "facts-line", title: pairs.map((pair) => pair.join(": ")).join("\n") },
    h("span", {}, when(recording.recorded_at)),
    h("span", {}, clock(recording.duration_s, 0)),
    h("span", {}, voices(recording)),
    h("span", { class: "ids" }, recording.id),
    shown.length ? h("dl", { class: "metadata" }, ...shown) : null,
  );
}

/** In UTC, as filters by date take it; a day alone where no time of the day is known. */
function when(recorded_at: string): string {
  const at = new Date(recorded_at);
  const timed = at.getUTCHours() + at.getUTCMinutes() + at.getUTCSeconds() > 0;
  return at.toLocaleString(document.documentElement.lang, { dateStyle: "medium", ...(timed ? { timeStyle: "short" } : {}), timeZone: "UTC" });
}

function voices({ channels, roles }: Recording): string {
  if (roles?.some((role) => role !== null)) return roles.map(roleName).join(" · ");
  return t(channels === 1 ? "calls.channel" : "calls.channels", { n: channels });
}
