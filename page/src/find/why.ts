// Why a hit is one, in words: what both feel, which segments are alike, how rare that is.
import { clock, h, span } from "../html";
import { emotionName, percent } from "../language";
import { t } from "./words";
import type { Explanation, Hit, Match } from "../types";

const SHARED_SHOWN = 3;
const MATCHES_SHOWN = 3; // a whole call as reference has one for each of its segments

/** What the service said of a hit when it was asked why; null where it was not asked. */
export function reasons(hit: Hit): HTMLElement | null {
  const { why, percentile } = hit;
  if (!why) return null;
  const rows = [
    percentile === null ? null : row("why.rare", h("span", {}, rare(percentile))),
    why.shared.length ? row("why.both", ...why.shared.slice(0, SHARED_SHOWN).map(shared)) : null,
    why.matches.length ? row("why.alike", ...matches(why.matches)) : null,
  ];
  return h("dl", { class: "why", "aria-label": t("why.title") }, ...rows);
}

function row(title: "why.rare" | "why.both" | "why.alike", ...said: HTMLElement[]): HTMLElement {
  return h("div", {}, h("dt", {}, t(title)), h("dd", {}, ...said));
}

/** How rare such likeness is here, in a sentence. */
export function rare(percentile: number): string {
  return percentile >= 100 ? t("why.rare.all") : t("why.rare.than", { share: shareOf(percentile) });
}

/** Rounded down: nothing but a pair nearer than all others is called nearer than all. */
export function shareOf(percentile: number): string {
  return `${(Math.floor(percentile * 10) / 10).toFixed(1)}%`;
}

function shared({ emotion, reference, segment }: Explanation["shared"][number]): HTMLElement {
  const said = t("why.both.each", { emotion: emotionName(emotion), there: percent(reference), here: percent(segment) });
  const dot = h("span", { class: "swatch", "aria-hidden": "true" });
  return h("span", { class: "line", "data-emotion": emotion }, dot, said);
}

function matches(all: readonly Match[]): HTMLElement[] {
  const best = [...all].sort((a, b) => b.cosine - a.cosine);
  const rest = best.slice(MATCHES_SHOWN).map(match);
  const more = h("details", {}, h("summary", {}, t("why.alike.more", { n: rest.length })), ...rest);
  return [...best.slice(0, MATCHES_SHOWN).map(match), ...(rest.length ? [more] : [])];
}

function match(of: Match): HTMLElement {
  const values = { reference: named(of), span: span(of.start_s, of.end_s), cosine: of.cosine.toFixed(3) };
  return h("span", { class: "line" }, t("why.alike.each", values));
}

/** A segment of the reference: an emotion by its word, anything else by its id or file, and from when on. */
function named({ reference, reference_start_s }: Match): string {
  const name = reference.split(" + ").map((each) => {
    const [kind, ...rest] = each.split(":");
    if (kind === "emotion") return emotionName(rest.join(":"));
    return kind === "label" ? rest.join(":") : each;
  });
  return name.join(" + ") + (reference_start_s === null ? "" : ` ${clock(reference_start_s)}`);
}
