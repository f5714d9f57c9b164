// The segment that is to be labelled: heard, seen, and why it is suggested.
import { getJson } from "../api";
import { emotionTag } from "../emotion";
import { h, icon, span } from "../html";
import { percent } from "../language";
import { seek, toggle, type Playing } from "../player";
import { addressOf } from "../router";
import { sayError } from "../states";
import { BARS, Waveform } from "../waveform";
import type { Suggestion } from "./types";
import { t } from "./words";

export class Card {
  readonly element: HTMLElement;
  private readonly what: string;
  private readonly path: string;
  private readonly wave: Waveform;
  private readonly button: HTMLButtonElement;
  private readonly wrong = h("p", { class: "wrong", role: "alert" });
  private on = false;

  constructor(readonly suggestion: Suggestion) {
    const { segment, recording, name, channel, start_s, end_s, text } = suggestion;
    this.what = `${name}, ${span(start_s, end_s)}`;
    this.path = `segments/${segment}/audio`;
    this.wave = new Waveform(t("hit.wave", { what: this.what }), (share) => void seek(this.path, share).catch((error) => this.fail(error)));
    this.button = h("button", { type: "button", class: "play", click: () => this.play() });
    this.element = h(
      "div",
      { class: "segment", "data-segment": segment },
      h(
        "header",
        { class: "line" },
        h("h3", {}, h("a", { href: addressOf("calls", { id: recording, search: { segment } }) }, name)),
        h("span", {}, span(start_s, end_s)),
        h("span", { class: "quiet" }, t("hit.channel", { n: channel })),
        h("span", { class: "quiet ids" }, segment),
      ),
      h("div", { class: "heard" }, this.button, this.wave.element),
      text ? h("p", { class: "spoken" }, `“${text}”`) : null,
      h("div", { class: "line" }, emotionTag({ ...suggestion, scores: {} }), h("span", { class: "reason" }, sayWhy(suggestion))),
      this.wrong,
    );
    this.say();
  }

  play(): void {
    void toggle(this.path).catch((error) => this.fail(error));
  }

  follow({ path, at_s, duration_s, on }: Playing): void {
    const mine = path === this.path;
    this.wave.at(mine && duration_s > 0 && at_s < duration_s ? at_s / duration_s : 0);
    if (this.on === (mine && on)) return;
    this.on = mine && on;
    this.say();
  }

  async draw(): Promise<void> {
    try {
      const { peaks } = await getJson<{ peaks: number[] }>(`segments/${this.suggestion.segment}/peaks?n=${BARS}`);
      this.wave.draw(peaks);
    } catch (error) {
      this.wave.element.classList.add("missing");
      this.fail(error);
    }
  }

  private say(): void {
    this.button.replaceChildren(icon(this.on ? "pause" : "play"));
    this.button.setAttribute("aria-label", t(this.on ? "hit.pause" : "hit.play", { what: this.what }));
  }

  private fail(error: unknown): void {
    // a browser that plays nothing before the reader has done something is no error
    if (error instanceof DOMException && error.name === "NotAllowedError") return;
    this.wrong.textContent = sayError(error);
  }
}

/** Why it is suggested, in the reader's words. */
function sayWhy({ kind, label, other, score, margin, share }: Suggestion): string {
  const values = {
    label: label ?? "",
    other: other ?? "",
    first: percent(score ?? 0),
    second: percent((score ?? 0) - (margin ?? 0)),
    share: percent(share ?? 0),
  };
  return t(`labels.why.${kind}`, values);
}
