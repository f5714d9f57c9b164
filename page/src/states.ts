// Loading, empty and failed: what a view shows in place of its content, in the page's own words.
import { ApiError } from "./api";
import { h } from "./html";
import { t } from "./language";

export function loading(): HTMLElement {
  return h("p", { class: "card loading", role: "status" }, t("state.loading"));
}

/** A card that says what is not there yet, and what to do about it. */
export function empty(title: string, ...content: (Node | string | null)[]): HTMLElement {
  return h("div", { class: "card" }, h("h2", {}, title), ...content.map((each) => (typeof each === "string" ? h("p", {}, each) : each)));
}

/** A card that says what went wrong; what may go away by itself can be tried again. */
export function trouble(error: unknown, again: (() => void) | null = null): HTMLElement {
  const passing = error instanceof ApiError && (error.status === 0 || error.status === 401 || error.status >= 500);
  return h(
    "div",
    { class: "card error", role: "alert" },
    h("p", {}, sayError(error)),
    again && passing ? h("button", { type: "button", click: again }, t("state.again")) : null,
  );
}

/** An error in the page's words. The service's own are written for the command line and for programs. */
export function sayError(error: unknown): string {
  if (!(error instanceof ApiError)) return error instanceof Error ? error.message : String(error);
  const [detail = ""] = error.message.replace(/^--\w+(?: '.*?')?:? (?:is )?/, "").split(" - ");
  const [what] = /\b(?:seg|call):\d+/.exec(error.message) ?? [];
  switch (error.reason) {
    case "overloaded":
    case "busy":
      return t("error.busy");
    case "too-slow":
      return t("error.slow");
    case "not-stored":
      return what ? t("error.gone", { what }) : t("error.gone.any");
    case "missing":
    case "not-a-file":
    case "forbidden":
      return t("error.audio");
    case "not-audio":
      return t("error.notAudio");
    case "empty":
      return t("error.empty");
    case "truncated":
    case "invalid-samples":
      return t("error.unplayable", { detail });
    case "bad-filter":
      return t("error.filter", { detail });
    case "unlawful":
      return t("error.unlawful");
    case "missing-extra":
      return t("error.extra", { command: /pip install \S+/.exec(error.message)?.[0] ?? detail });
  }
  if (error.status === 0) return t("error.unreachable");
  if (error.status === 401) return t("error.key");
  return t("error.other", { detail });
}
