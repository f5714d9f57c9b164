// Which view an address shows, and the way from one to the next: the browser's own history.

export const VIEWS = ["find", "calls", "map", "trends", "labels"] as const;
export type ViewName = (typeof VIEWS)[number];

/** What of the address a view is shown for. */
export interface Params {
  id: string | null; // of /calls/ID
  search: URLSearchParams;
  state: unknown; // of the entry in the browser's history
  signal: AbortSignal; // aborted once another view, or the same one anew, takes its place
}

/** What a view gives the shell to hold while it is shown. */
export interface View {
  title: string; // of the window, before "– e2vsearch"; "" for none
  keys?: Record<string, (event: KeyboardEvent) => void>; // by KeyboardEvent.key, while no field has the focus
  help?: [keys: string[], meaning: string][]; // these keys, for the sheet that "?" shows
  leave?: () => void; // another view, or the same one anew, takes its place
}

/** What the index file of a view's folder exports: draws into an empty container, for this address. */
export type Show = (container: HTMLElement, params: Params) => View | Promise<View>;

const PATHS: Record<ViewName, string> = {
  find: "",
  calls: "calls",
  map: "view/map", // /map, /trends and /labels are the API's own
  trends: "view/trends",
  labels: "view/labels",
};

// scripts lie in assets/ (in src/ under `npm run dev`), the page one above, also behind a proxy that serves it below a path
const here = import.meta.url;

/** The address of the page itself, with a slash at its end: what API paths are relative to. */
export const ROOT = new URL("..", here);

/** The view that an address shows, null for what is none of the page's. */
export function viewAt(url: URL): { view: ViewName; id: string | null } | null {
  if (url.origin !== ROOT.origin || !url.pathname.startsWith(ROOT.pathname)) return null;
  const path = url.pathname.slice(ROOT.pathname.length);
  const view = VIEWS.find((each) => PATHS[each] === path);
  if (view) return { view, id: null };
  const call = /^calls\/([^/]+)$/.exec(path);
  return call ? { view: "calls", id: decoded(call[1]!) } : null;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // typed by hand, "100%" say: nothing is stored under it
  }
}

/** The address of a view: `addressOf("calls", { id: "call:10" })`, `addressOf("find", { search: { ref: "seg:3" } })`. */
export function addressOf(
  view: ViewName,
  { id = null, search = "" }: { id?: string | null; search?: string | Record<string, string> | URLSearchParams | string[][] } = {},
): string {
  const url = new URL(id === null ? PATHS[view] : `calls/${encodeURIComponent(id).replaceAll("%3A", ":")}`, ROOT);
  url.search = new URLSearchParams(search).toString().replaceAll("%3A", ":");
  return url.href;
}

type Listener = () => void;
let moved: Listener = () => undefined;

/** Says who shows the view of the address that the browser is at. */
export function onMove(listener: Listener): void {
  moved = listener;
  addEventListener("popstate", listener);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = (event.target as Element).closest<HTMLAnchorElement>("a[href]");
    if (!link || link.target || link.hasAttribute("download") || link.getAttribute("href")?.startsWith("#")) return;
    if (viewAt(new URL(link.href)) === null) return;
    event.preventDefault();
    go(link.href);
  });
}

/** Goes to an address of the page, as a new entry in the history. */
export function go(address: string, state: unknown = null): void {
  history.pushState(state, "", address);
  moved();
}
