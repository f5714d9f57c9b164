// How an emotion is shown everywhere: a swatch with its word and probability, never a colour alone.
import { h } from "./html";
import { emotionName, percent, t } from "./language";
import type { Hit } from "./types";

const TOO_SHORT = "too short"; // said in place of an emotion, as "unsure" is

/** Where no emotion is named, a muted word says why. */
export function emotionTag(of: Pick<Hit, "emotion" | "emotion_score" | "scores">): HTMLElement {
  if (of.emotion === null) return h("span", { class: "tag" }, t("hit.unheard"));
  if (of.emotion === TOO_SHORT) return muted(of.emotion);
  const tag = of.emotion_score === null ? muted(of.emotion) : swatch(of.emotion, percent(of.emotion_score));
  const ranked = Object.entries(of.scores).sort(([, a], [, b]) => b - a);
  tag.title = ranked.map(([emotion, score]) => `${emotionName(emotion)} ${percent(score)}`).join("\n");
  return tag;
}

function muted(said: string): HTMLElement {
  return h("span", { class: "tag muted" }, emotionName(said));
}

export function swatch(emotion: string, after = ""): HTMLElement {
  const dot = h("span", { class: "swatch", "aria-hidden": "true" });
  return h("span", { class: "tag emotion", "data-emotion": emotion }, dot, `${emotionName(emotion)} ${after}`.trim());
}
