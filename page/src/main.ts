// The shell around the views: navigation, keyboard, language, API key, and what the collection holds.
import "./palette.css";
import "./style.css";

import { ApiError, getJson, onKeyNeeded } from "./api";
import { holdings, onHoldings, type Holdings } from "./collection";
import { show as showFind } from "./find/find";
import { keepFocus } from "./focus";
import { byId, clock, h } from "./html";
import { count, otherLanguage, speak, t, toggleLanguage } from "./language";
import { addressOf, go, onMove, VIEWS, viewAt, type Show, type View, type ViewName } from "./router";
import { loading, trouble } from "./states";

/** Each view is loaded when it is first shown; not Find, whose form stands in index.html: a clip may be dropped at once. */
const MODULES: Record<ViewName, () => Promise<{ show: Show }>> = {
  find: async () => ({ show: showFind }),
  calls: () => import("./calls/calls"),
  map: () => import("./map/map"),
  trends: () => import("./trends/trends"),
  labels: () => import("./labels/labels"),
};

const GO = Object.fromEntries(VIEWS.map((name) => [name[0], name])) as Record<string, ViewName>; // g f, g c …

const find = byId("find"); // the Find view's form stands in index.html
const other = byId("other");
const nav = byId("nav");

let shown: { name: ViewName; view: View | null } | null = null;
let leaving: AbortController | null = null; // of what was asked to be shown last: only that may draw

async function show(): Promise<void> {
  const place = viewAt(new URL(location.href)) ?? { view: "find" as const, id: null };
  const first = leaving === null;
  leaving?.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  shown?.view?.leave?.();
  const fresh = shown?.name !== place.view;
  shown = { name: place.view, view: null };
  sayNavigation();
  if (place.view !== "find") find.hidden = true;
  other.hidden = place.view === "find";
  if (!fresh) keepFocus(other);
  const container = place.view === "find" ? find : h("div", { class: `view ${place.view}` });
  if (place.view !== "find") other.replaceChildren(fresh ? loading() : container, ...(fresh ? [container] : []));
  byId("failed").replaceChildren();
  try {
    const { show: draw } = await MODULES[place.view]().catch(() => Promise.reject(new NotFetched(0, "")));
    if (signal.aborted) return;
    container.hidden = false; // the form is hidden until its style sheet is there
    if (place.view !== "find") other.replaceChildren(container);
    if (fresh && !first) byId("view").focus({ preventScroll: true });
    const view = await draw(container, { id: place.id, search: new URLSearchParams(location.search), state: history.state, signal });
    if (signal.aborted) {
      view.leave?.();
      return;
    }
    shown = { name: place.view, view };
    document.title = [view.title, place.view === "find" ? "" : t(`nav.${place.view}`), "e2vsearch"].filter(Boolean).join(" – ");
  } catch (error) {
    if (signal.aborted) return;
    const again = error instanceof NotFetched ? reload : show;
    if (place.view !== "find") container.remove(); // it may still say that it is loading
    byId("failed").replaceChildren(trouble(error, () => void again()));
  }
}

/** The script of a view is not there: the service is away, or a newer one, whose scripts have other names. */
class NotFetched extends ApiError {}

/** Loads the page anew once the service answers: a browser that could not fetch a script does not ask for it again. */
async function reload(): Promise<void> {
  if (await getJson("status").then(() => true, () => false)) location.reload();
}

function sayNavigation(): void {
  nav.replaceChildren(
    ...VIEWS.map((name) => {
      const current = name === shown?.name ? "page" : null;
      return h("a", { href: addressOf(name), "aria-current": current, "aria-keyshortcuts": `g ${name[0]}` }, t(`nav.${name}`));
    }),
  );
}

// ------------------------------------------------------------------------------------------------------ keyboard

const sheet = byId<HTMLDialogElement>("keys");
let going = 0; // until when, in ms, a letter after "g" names a view

function openSheet(): void {
  const row = (keys: Node[], meaning: string): HTMLElement => h("div", {}, h("dt", {}, ...keys), h("dd", {}, meaning));
  const kbd = (key: string): HTMLElement => h("kbd", {}, key);
  const here = (shown?.view?.help ?? []).map(([keys, meaning]) => row(keys.map(kbd), meaning));
  const everywhere = VIEWS.map((name) => row([kbd("g"), kbd(name[0]!)], t("keys.go", { view: t(`nav.${name}`) })));
  byId("keys-list").replaceChildren(
    ...(here.length ? [h("h3", {}, t("keys.here")), h("dl", {}, ...here)] : []),
    h("h3", {}, t("keys.everywhere")),
    h("dl", {}, ...everywhere, row([kbd("?")], t("keys.title"))),
  );
  sheet.showModal();
}

document.addEventListener("keydown", (event) => {
  const at = event.target as Element;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  if (at.closest("input:not([type=checkbox], [type=radio]), select, textarea, dialog")) return;
  if ((event.key === " " || event.key === "Enter") && at.closest("button, summary, a, input")) return;
  const view = performance.now() < going ? GO[event.key] : undefined;
  going = 0;
  let action: ((event: KeyboardEvent) => void) | undefined;
  if (view) action = () => go(addressOf(view));
  else if (event.key === "g" && !shown?.view?.keys?.["g"]) action = () => void (going = performance.now() + 1500);
  else if (event.key === "?") action = openSheet;
  else action = shown?.view?.keys?.[event.key];
  if (!action) return;
  event.preventDefault();
  action(event);
});
byId("show-keys").addEventListener("click", openSheet);

// --------------------------------------------------------------------------------------------------- key, language

const askDialog = byId<HTMLDialogElement>("ask-key");
const keyField = byId<HTMLInputElement>("key");

onKeyNeeded(
  (message) =>
    new Promise((resolve) => {
      byId("key-said").textContent = message;
      keyField.value = "";
      askDialog.returnValue = "no";
      askDialog.addEventListener("close", () => resolve(askDialog.returnValue === "ok" ? keyField.value.trim() : null), {
        once: true,
      });
      askDialog.showModal();
    }),
);

function say(): void {
  speak();
  const next = otherLanguage();
  const language = byId("language");
  language.textContent = next.name;
  language.lang = next.lang;
}

let held: Holdings | null = null;

function sayHolds(): void {
  if (!held) return;
  const { recordings, segments, speech_s } = held.status.counts;
  const values = { calls: count(recordings), segments: count(segments), speech: clock(speech_s, 0) };
  byId("holds").textContent = recordings ? t("holds", values) : t("holds.nothing");
}

onHoldings((found) => {
  held = found;
  sayHolds();
});

byId("language").addEventListener("click", () => {
  toggleLanguage();
  say();
  sayHolds();
  void show();
});

// relative to the page that was loaded, and not to the address that is shown later
for (const link of document.querySelectorAll<HTMLAnchorElement | HTMLLinkElement>("[href]:not([href^='#'])")) link.href = link.href;
say();
onMove(() => void show());
holdings().catch(() => undefined); // the view says what is wrong
void show();
