// Why a filter leaves nothing, in the page's words, with the value that may have been meant.
import { searchOf, type Query } from "./find/query";
import { h } from "./html";
import { t } from "./language";
import { addressOf, type ViewName } from "./router";

/**
 * @param hint the service's, one or more reasons: `no queue is called "biling", did you mean "billing"?`
 * @param view where the near value leads to; null where an address does not hold all that is asked, such as a clip
 */
export function sayHint(hint: string, query: Query, view: ViewName | null): HTMLElement[] {
  return hint.split("; ").map((reason) => {
    const [, field, value, near, there] = /^no (.+?) is called "(.*?)"(?:, did you mean "(.*)"\?| \(there is (.*)\))?$/.exec(reason) ?? [];
    if (value !== undefined && field !== undefined) {
      if (near) return offer(t("hint.near", { field, value }), value, near, query, view);
      return h("p", {}, there ? t("hint.there", { field, value, there }) : t("hint.none", { field, value }));
    }
    const [, word, meant] = /^no recording says "(.*?)"(?:, did you mean "(.*)"\?)?$/.exec(reason) ?? [];
    if (word !== undefined) return meant ? offer(t("hint.unsaid", { word }), word, meant, query, view) : h("p", {}, t("hint.unsaid", { word }));
    return h("p", {}, reason.startsWith("no recording has a transcript") ? t("hint.untranscribed") : reason);
  });
}

function offer(said: string, value: string, near: string, query: Query, view: ViewName | null): HTMLElement {
  const swapped = (text: string): string => text.replaceAll(value, () => near);
  const next = new URLSearchParams([...searchOf(query)].map(([name, text]) => [name, swapped(text)]));
  if (view === null) return h("p", {}, said, " ", t("hint.meant", { near }));
  return h("p", { class: "line" }, said, h("a", { class: "button", href: addressOf(view, { search: next }) }, t("hint.use", { near })));
}
