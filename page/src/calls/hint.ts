// Why a filter leaves nothing, in the page's words, with the value that may have been meant.
import { searchOf, type Query } from "../find/query";
import { h } from "../html";
import { addressOf } from "../router";
import { t } from "./words";

/** @param hint the service's, one or more reasons: `no queue is called "biling", did you mean "billing"?` */
export function sayHint(hint: string, query: Query): HTMLElement[] {
  return hint.split("; ").map((reason) => {
    const [, field, value, near, there] = /^no (.+?) is called "(.*?)"(?:, did you mean "(.*)"\?| \(there is (.*)\))?$/.exec(reason) ?? [];
    if (value !== undefined && field !== undefined) {
      if (near) return offer(t("calls.hint.near", { field, value }), value, near, query);
      return h("p", {}, there ? t("calls.hint.there", { field, value, there }) : t("calls.hint.none", { field, value }));
    }
    const [, word, meant] = /^no recording says "(.*?)"(?:, did you mean "(.*)"\?)?$/.exec(reason) ?? [];
    if (word !== undefined) return meant ? offer(t("calls.hint.unsaid", { word }), word, meant, query) : h("p", {}, t("calls.hint.unsaid", { word }));
    return h("p", {}, reason.startsWith("no recording has a transcript") ? t("calls.hint.untranscribed") : reason);
  });
}

function offer(said: string, value: string, near: string, query: Query): HTMLElement {
  const swapped = (text: string): string => text.replaceAll(value, () => near);
  const next = new URLSearchParams([...searchOf(query)].map(([name, text]) => [name, swapped(text)]));
  return h("p", { class: "line" }, said, h("a", { class: "button", href: addressOf("calls", { search: next }) }, t("calls.hint.use", { near })));
}
