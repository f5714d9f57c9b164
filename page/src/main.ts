// The page: one query at a time, in the browser's history. Ties the form, the clip, the service and the list together.
import { ApiError, getJson, onKeyNeeded } from "./api";
import { pauseClip, sayRecording, showClip, startClip } from "./clip";
import { offer, read, write } from "./filters";
import { move, moreLikeChosen, playChosen, showHits, startHits } from "./hits";
import { byId, clock, h } from "./html";
import { emotionName, otherLanguage, speak, t, toggleLanguage } from "./language";
import { onPlaying, pause } from "./player";
import { addressOf, ask, filtersOn, queryAt, referencesOf, withoutFilters, type Query } from "./query";
import { showReferences, startReference } from "./reference";
import type { Filters, QueryResult, Status } from "./types";

interface Entry {
  number: number; // of this history entry, by which its answer is kept
  clip: number | null;
}

const search = byId<HTMLFormElement>("search");
const reference = byId<HTMLInputElement>("reference");
const results = byId("results");
const said = byId("said");
const trouble = byId("trouble");
const start = byId("start");

const clips = new Map<number, File>(); // cannot go into the address: gone when the page is loaded anew
const answers = new Map<number, QueryResult>(); // so that Back shows at once what was there

let entry = (history.state as Entry | null) ?? { number: 0, clip: null };
let query = queryAt(location.search, entry.clip);
let filters: Filters | null = null;
let status: Status | null = null;
let asked: AbortController | null = null; // what is under way
let clipShown: File | null = null;

// ------------------------------------------------------------------------------------------------------ one query

/** Makes `next` the query, as a new entry in the history; what is the query already is asked only `again`. */
function go(next: Query, again = false): void {
  const address = addressOf(next);
  const same = address === addressOf(query) && next.clip === query.clip;
  if (same && (!again || asked !== null)) return;
  entry = { number: entry.number + (same ? 0 : 1), clip: next.clip };
  for (const kept of answers.keys()) if (kept >= entry.number) answers.delete(kept); // what Forward led to is gone
  if (!same) history.pushState(entry, "", address);
  query = next;
  show();
}

function show(): void {
  asked?.abort();
  asked = null;
  write(query);
  trouble.replaceChildren();
  start.replaceChildren();
  const clip = query.clip === null ? null : (clips.get(query.clip) ?? null);
  if (clip !== clipShown) showClip(clip);
  clipShown = clip;
  reference.value = query.references.map((each) => each.replace(/^(emotion|label):/, "")).join(", ");
  void showReferences(query.references);
  document.title = query.references.length ? `${query.references.join(", ")} – e2vsearch` : "e2vsearch";
  const answer = answers.get(entry.number);
  if (answer) tell(answer);
  else if (query.references.length || clip) void find(clip);
  else {
    showHits([], query.by);
    said.textContent = query.clip === null ? "" : t("reference.gone");
    invite();
  }
}

async function find(clip: File | null): Promise<void> {
  const stop = new AbortController();
  const { number } = entry;
  asked = stop;
  results.setAttribute("aria-busy", "true");
  said.textContent = t("results.searching");
  try {
    const answer = await ask(query, clip, filters?.fields ?? [], stop.signal);
    answers.set(number, answer);
    if (asked === stop) tell(answer);
  } catch (error) {
    if (asked !== stop) return; // another query has taken its place
    showHits([], query.by);
    said.textContent = "";
    fail(error, () => show());
  } finally {
    if (asked === stop) asked = null;
    if (asked === null) results.removeAttribute("aria-busy");
  }
}

function tell(answer: QueryResult): void {
  results.removeAttribute("aria-busy");
  showHits(answer.hits, query.by);
  const n = answer.hits.length;
  const one = query.by === "recording" ? ("results.call" as const) : ("results.segment" as const);
  const many = query.by === "recording" ? ("results.calls" as const) : ("results.segments" as const);
  const ms = answer.seconds * 1000;
  const marks = { where: "\u0001", text: "\u0002" }; // where the filter and the words said stand in this language
  const line = t("results.line", {
    searched: count(answer.searched),
    total: count(answer.total),
    where: answer.where ? marks.where : "",
    text: answer.text ? marks.text : "",
    time: ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`,
  });
  const parts = line.split(/([\u0001\u0002])/).flatMap((part): (Node | string)[] => {
    if (part === marks.where) return [t("results.where"), h("code", {}, answer.where ?? "")];
    return [part === marks.text ? t("results.text", { text: answer.text ?? "" }) : part];
  });
  said.replaceChildren(n ? h("strong", {}, t(n === 1 ? one : many, { n })) : "", ...parts);
  if (n === 0) start.replaceChildren(nothing());
}

function nothing(): HTMLElement {
  const filtered = filtersOn(query) > 0;
  return h(
    "div",
    { class: "card" },
    h("p", {}, t(filtered ? "results.none.filtered" : "results.none")),
    filtered ? h("button", { type: "button", click: () => go(withoutFilters(query)) }, t("filters.clear")) : null,
  );
}

/** What to do first, with the collection's own emotions and labels to start from. */
function invite(): void {
  if (!filters) return;
  const from = (kind: string, name: string, said: string): HTMLElement =>
    h(
      "button",
      { type: "button", class: "tag emotion", "data-emotion": kind === "emotion" ? name : "", click: () => go({ ...query, references: [`${kind}:${name}`], clip: null }) },
      h("span", { class: "swatch", "aria-hidden": "true" }),
      said,
    );
  start.replaceChildren(
    h(
      "div",
      { class: "card" },
      h("h3", {}, t("start.title")),
      h("p", {}, t("start.how")),
      h(
        "div",
        { class: "tags" },
        ...filters.emotions.map((emotion) => from("emotion", emotion, emotionName(emotion))),
        ...filters.labels.map((label) => from("label", label, label)),
      ),
    ),
  );
}

/** Shows the service's own words; what may go away by itself can be tried again. */
function fail(error: unknown, again: (() => void) | null = null): void {
  const api = error instanceof ApiError ? error : null;
  const message = api?.status === 0 ? t("results.unreachable") : error instanceof Error ? error.message : String(error);
  const passing = api !== null && (api.status === 0 || api.status === 401 || api.status >= 500);
  trouble.replaceChildren(
    h(
      "div",
      { class: "card error" },
      h("p", {}, message),
      again && passing ? h("button", { type: "button", click: again }, t("results.again")) : null,
    ),
  );
}

function count(n: number): string {
  return n.toLocaleString(document.documentElement.lang);
}

// ------------------------------------------------------------------------------------------------- what is asked

search.addEventListener("submit", (event) => {
  event.preventDefault();
  const next = read(query);
  const typed = referencesOf(reference.value, filters);
  if (typed.length) Object.assign(next, { references: typed, clip: null });
  else if (next.clip === null) {
    reference.focus();
    return;
  }
  go(next, true);
});

function changed(event: Event): void {
  if (event.target === reference || event.target === byId("file")) return;
  const next = read(query);
  if (next.references.length || next.clip !== null) go(next);
  else {
    query = next;
    write(query);
  }
}

search.addEventListener("change", changed);
search.addEventListener("input", (event) => {
  // a suggestion was picked; "change" would come only once the field is left
  if (!(event instanceof InputEvent) || event.inputType !== "insertReplacementText") return;
  if (event.target === reference) search.requestSubmit();
  else changed(event);
});

byId("clear").addEventListener("click", () => go(withoutFilters(query)));

const forget = (): void => go({ ...read(query), references: [], clip: null });

startClip({
  chosen: (clip) => {
    const number = Date.now(); // one that no entry of this tab's history has, from before the page was loaded anew
    clips.set(number, clip);
    go({ ...read(query), references: [], clip: number });
  },
  removed: forget,
  played: pause,
  failed: (message) => fail(new Error(message)),
});

startReference({ removed: forget, failed: (error) => fail(error) });
startHits({
  more: (segment) => {
    pause();
    go({ ...read(query), references: [segment], clip: null });
    scrollTo({ top: 0 });
    results.focus({ preventScroll: true });
  },
  labelled: (message) => {
    byId("noted").textContent = message; // for screen readers: the row shows it itself
    void know();
  },
  failed: (error) => fail(error),
});
onPlaying(({ on }) => on && pauseClip());

addEventListener("popstate", (event) => {
  entry = (event.state as Entry | null) ?? { number: 0, clip: null };
  query = queryAt(location.search, entry.clip);
  pause();
  show();
});

// ------------------------------------------------------------------------------------------------------ keyboard

const keys = byId<HTMLDialogElement>("keys");
const filtersPanel = byId<HTMLDetailsElement>("filters");

const ACTIONS: Record<string, () => void> = {
  j: () => move(1),
  k: () => move(-1),
  " ": playChosen,
  Enter: moreLikeChosen,
  "/": () => {
    filtersPanel.open = true;
    filtersPanel.querySelector<HTMLElement>("select[name=emotion]")?.focus();
  },
  "?": () => keys.showModal(),
};

document.addEventListener("keydown", (event) => {
  const at = event.target as Element;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (at.closest("input, select, textarea, dialog")) return;
  if ((event.key === " " || event.key === "Enter") && at.closest("button, summary, a")) return;
  const action = ACTIONS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
byId("show-keys").addEventListener("click", () => keys.showModal());

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
  const other = otherLanguage();
  const language = byId("language");
  language.textContent = other.name;
  language.lang = other.lang;
  sayRecording();
  sayHolds();
  if (filters) offer(filters, query);
}

function sayHolds(): void {
  if (!status) return;
  const { recordings, segments, speech_s } = status.counts;
  const values = { calls: count(recordings), segments: count(segments), speech: clock(speech_s, 0) };
  byId("holds").textContent = recordings ? t("holds", values) : t("holds.nothing");
}

byId("language").addEventListener("click", () => {
  toggleLanguage();
  say();
  clipShown = null; // its buttons speak too
  show();
});

/** Learns what the collection holds: at the start, and when a label is new. */
async function know(): Promise<void> {
  try {
    [filters, status] = await Promise.all([getJson<Filters>("filters"), getJson<Status>("status")]);
  } catch (error) {
    fail(error, () => void begin());
    return;
  }
  offer(filters, query);
  sayHolds();
}

async function begin(): Promise<void> {
  trouble.replaceChildren();
  await know();
  if (filters) show();
}

// on a narrow screen the results come first, and filters wait to be asked for
filtersPanel.open = matchMedia("(min-width: 60rem)").matches;
history.replaceState(entry, "");
say();
void begin();
