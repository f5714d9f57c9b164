// Why a hit is one, in words: what both feel, which moments are alike, how rare that is. Knows hits, not their list.
import { clock, h, span } from "./html";
import { emotionName, t } from "./language";
import type { Explanation, Hit, Match } from "./types";

const SHARED_SHOWN = 3;
const MATCHES_SHOWN = 3; // a whole call as reference has one for each of its moments

/** What the service said of a hit when it was asked why; null where it was not asked. */
export function reasons(hit: Hit): HTMLElement | null {
  const { why, percentile } = hit;
  if (!why) return null;
  const rows = [
    percentile === null ? null : row("why.rare", rare(percentile)),
    why.shared.length ? row("why.both", ...why.shared.slice(0, SHARED_SHOWN).map(shared)) : null,
    why.matches.length ? row("why.alike", ...matches(why.matches)) : null,
    why.emotion_part === null ? null : row("why.parts", parts(why)),
  ];
  return h("dl", { class: "why", "aria-label": t("why.title") }, ...rows);
}

function row(title: "why.rare" | "why.both" | "why.alike" | "why.parts", ...said: HTMLElement[]): HTMLElement {
  return h("div", {}, h("dt", {}, t(title)), h("dd", {}, ...said));
}

/** Rounded down: nothing but a pair nearer than all others is called nearer than all. */
function rare(percentile: number): HTMLElement {
  const share = `${(Math.floor(percentile * 10) / 10).toFixed(1)}%`;
  return h("span", {}, percentile >= 100 ? t("why.rare.all") : t("why.rare.than", { share }));
}

function shared({ emotion, reference, moment }: Explanation["shared"][number]): HTMLElement {
  const said = t("why.both.each", { emotion: emotionName(emotion), there: percent(reference), here: percent(moment) });
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

/** A moment of the reference: an emotion by its word, anything else by its id or file, and from when on. */
function named({ reference, reference_start_s }: Match): string {
  const name = reference.split(" + ").map((each) => {
    const [kind, ...rest] = each.split(":");
    if (kind === "emotion") return emotionName(rest.join(":"));
    return kind === "label" ? rest.join(":") : each;
  });
  return name.join(" + ") + (reference_start_s === null ? "" : ` ${clock(reference_start_s)}`);
}

function parts({ emotion_part, rest_part }: Explanation): HTMLElement {
  const values = { emotion: (emotion_part ?? 0).toFixed(3), rest: (rest_part ?? 0).toFixed(3) };
  return h("span", { title: t("why.parts.means") }, t("why.parts.each", values));
}

function percent(share: number): string {
  return `${Math.round(share * 100)}%`;
}
