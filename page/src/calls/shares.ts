// How much of the speech is which emotion: a bar of colours with the words beside it.
import { h } from "../html";
import { emotionName, percent } from "../language";

/** Most first; `named` is how many of them are said beside the bar, all of them when it is left out. */
export function sharesBar(shares: Record<string, number>, named = Infinity): HTMLElement {
  const all = Object.entries(shares);
  const parts = all.map(([emotion, share]) => {
    const part = h("span", { "data-emotion": emotion });
    part.style.flexGrow = String(share);
    return part;
  });
  const said = all.slice(0, named).map(([emotion, share]) =>
    h(
      "span",
      { class: "line", "data-emotion": emotion },
      h("span", { class: "swatch", "aria-hidden": "true" }),
      h("span", {}, `${emotionName(emotion)} ${percent(share)}`),
    ),
  );
  const title = all.map(([emotion, share]) => `${emotionName(emotion)} ${percent(share)}`).join("\n");
  return h("div", { class: "shares", title }, h("div", { class: "bar", "aria-hidden": "true" }, ...parts), h("div", { class: "named" }, ...said));
}
