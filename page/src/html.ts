// Small helpers for making HTML. Text goes in as text: nothing from the service is ever parsed as HTML.

type Attributes = Record<string, string | number | boolean | null | ((event: Event) => void)>;
type Child = Node | string | null;

/** An element; attributes that are null or false are left out, functions listen to the event of that name. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const element = document.createElementNS(SVG, tag) as SVGElement;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

const ICONS = {
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M7.5 5.5h3v13h-3zM13.5 5.5h3v13h-3z",
  remove: "M7 7l10 10M17 7L7 17",
};

/** A picture of 24 by 24 that screen readers pass over. */
export function icon(name: keyof typeof ICONS): SVGElement {
  return svg("svg", { viewBox: "0 0 24 24", class: `icon ${name}`, "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** What `index.html` holds under that id. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`index.html has no #${id}`);
  return found as E;
}

/** 761.2 → "12:41.2"; from an hour on "1:02:41.2". */
export function clock(seconds: number, digits = 1): string {
  const tenths = 10 ** digits;
  const rounded = Math.round(seconds * tenths) / tenths;
  const [hours, minutes] = [Math.floor(rounded / 3600), Math.floor(rounded / 60) % 60];
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  const shown = `${String(minutes).padStart(2, "0")}:${rest}`;
  return hours ? `${hours}:${shown}` : shown;
}

export function span(start_s: number, end_s: number): string {
  return `${clock(start_s)}–${clock(end_s)}`;
}
