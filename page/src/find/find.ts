// The Find view: one query at a time, in the browser's history. Ties the form, the clip, the service and the list together.
import "./find.css";

import { ApiError } from "../api";
import { holdings } from "../collection";
import { saveCsv } from "../csv";
import { keepFound } from "../found";
import { sayHint } from "../hint";
import { byId, h } from "../html";
import { count, emotionName, speak } from "../language";
import { onPlaying, pause } from "../player";
import { addressOf as placeOf, go as goTo, type Params, type View } from "../router";
import { sayError, trouble as card } from "../states";
import type { Filters, QueryResult } from "../types";
import { pauseClip, sayRecording, showClip, startClip } from "./clip";
import { clipOf, keep } from "./clips";
import { offer, read, write } from "./filters";
import { move, moreLikeChosen, openChosen, playChosen, showHits, startHits } from "./hits";
import { addressOf, ask, filtersOn, queryAt, referencesOf, searchOf, segmentsFound, withoutFilters, type Query } from "./query";
import { showReferences, startReference } from "./reference";
import { t } from "./words";

interface Entry {
  number: number; // of this history entry, by which its answer is kept
  clip: number | null;
}

const KEPT_ANSWERS = 20;

/** What a CSV of hits has of each, as that of the command line. */
const COLUMNS = ["score", "recording", "segment", "name", "channel", "start_s", "end_s", "emotion", "emotion_score", "label", "text"] as const;

const search = byId<HTMLFormElement>("search");
const reference = byId<HTMLInputElement>("reference");
const results = byId("results");
const said = byId("said");
const trouble = byId("trouble");
const start = byId("start");
const filtersPanel = byId<HTMLDetailsElement>("filters");

const answers = new Map<number, QueryResult>(); // so that Back shows at once what was there

let entry: Entry = { number: 0, clip: null };
let query: Query = queryAt("", null);
let filters: Filters | null = null;
let asked: AbortController | null = null; // what is under way
let moving = false; // to another query, which is not asked yet
let clipShown: File | null = null;
let spoken = "";
let drawn = false; // once

// ------------------------------------------------------------------------------------------------------ one query

/** Makes `next` the query, as a new entry in the history; what is the query already is asked only `again`. */
function go(next: Query, again = false): void {
  const address = addressOf(next);
  const same = address === addressOf(query) && next.clip === query.clip;
  if (same && (!again || asked !== null || moving)) return;
  query = next;
  moving = true;
  if (same) {
    answers.delete(entry.number);
    void draw();
  } else goTo(address, { number: newest(), clip: next.clip });
}

function newest(): number {
  return Math.max(Date.now(), entry.number + 1); // one that no entry of this tab's history has, also after a reload
}

async function draw(): Promise<void> {
  asked?.abort();
  asked = null;
  write(query);
  settle();
  const { number } = entry;
  const clip = query.clip === null ? null : await clipOf(query.clip);
  if (number !== entry.number) return; // another entry has taken its place meanwhile
  if (clip !== clipShown) showClip(clip);
  clipShown = clip;
  // what is typed before the page knows the collection stays
  if (drawn || query.references.length) reference.value = query.references.map((each) => each.replace(/^(emotion|label):/, "")).join(", ");
  drawn = true;
  void showReferences(query.references);
  moving = false;
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
    for (const oldest of answers.keys()) if (answers.size > KEPT_ANSWERS) answers.delete(oldest);
    if (asked === stop) tell(answer);
  } catch (error) {
    if (asked !== stop) return; // another query has taken its place
    showHits([], query.by);
    said.textContent = "";
    fail(error, () => void draw());
  } finally {
    if (asked === stop) asked = null;
    if (asked === null) results.removeAttribute("aria-busy");
  }
}

function tell(answer: QueryResult): void {
  keepFound(addressOf(query), entry, answer.hits);
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
  said.replaceChildren(n ? h("strong", {}, t(n === 1 ? one : many, { n })) : "", ...parts, ...(n ? [" ", onMap(answer), " ", asCsv(answer)] : []));
  if (n === 0) start.replaceChildren(nothing(answer.hint));
}

/** A button that saves the hits. */
function asCsv({ hits }: QueryResult): HTMLElement {
  const keys = [...new Set(hits.flatMap(({ metadata }) => Object.keys(metadata)))].sort();
  const head = ["rank", ...COLUMNS, ...keys.map((key) => `meta.${key}`)];
  const lines = hits.map((hit, at) => [at + 1, ...COLUMNS.map((name) => hit[name]), ...keys.map((key) => hit.metadata[key])]);
  return h("button", { type: "button", class: "plain", click: () => saveCsv("hits.csv", [head, ...lines]) }, t("csv.save"));
}

/** A link to the hits on the map. */
function onMap(answer: QueryResult): HTMLElement {
  return h("a", { href: placeOf("map", { search: { hits: segmentsFound(answer) } }) }, t("results.map"));
}

function nothing(hint: string | null): HTMLElement {
  const filtered = filtersOn(query) > 0;
  return h(
    "div",
    { class: "card" },
    ...(hint ? sayHint(hint, query, query.clip === null ? "find" : null) : [h("p", {}, t(filtered ? "results.none.filtered" : "results.none"))]),
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
      filtersOn(query) ? h("p", {}, h("a", { href: placeOf("calls", { search: searchOf(query) }) }, t("start.browse"))) : null,
    ),
  );
}

/** Takes what was said of another query away. */
function settle(): void {
  trouble.replaceChildren();
  start.replaceChildren();
  for (const field of [reference, where]) mark(field, "");
}

const where = search.elements.namedItem("where") as HTMLTextAreaElement;

/** Says beside a field what is wrong with it; "" for nothing. */
function mark(field: HTMLInputElement | HTMLTextAreaElement, message: string): void {
  const note = byId(`${field.name}-error`);
  note.textContent = message;
  if (message) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/** Says what went wrong, beside the field that it is about where there is one. */
function fail(error: unknown, again: (() => void) | null = null): void {
  const reason = error instanceof ApiError ? error.reason : "";
  if (reason === "bad-filter" && where.value.trim()) {
    filtersPanel.open = true;
    byId("advanced").setAttribute("open", "");
    mark(where, sayError(error));
  } else if (["not-stored", "path-forbidden", "query"].includes(reason) && reference.value.trim()) {
    const path = query.references.find((each) => !/^(seg|call|emotion|label):/.test(each)) ?? reference.value;
    const [, , name] = /^there is no (?:emotion|label) (["'])(.*?)\1 /.exec((error as ApiError).message) ?? [];
    const what = reason === "path-forbidden" ? path : name;
    mark(reference, what === undefined ? sayError(error) : t("error.reference", { what }));
  } else trouble.replaceChildren(card(error, again));
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
    invite();
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
    go({ ...read(query), references: [], clip: keep(clip) });
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
    void know().catch(() => undefined);
  },
  failed: (error) => fail(error),
});
onPlaying(({ on }) => on && pauseClip());

// ----------------------------------------------------------------------------------------------------- the view

/** Learns what the collection holds: at the start, and when a label is new. */
async function know(): Promise<void> {
  ({ filters } = await holdings(filters !== null));
  offer(filters, query);
}

/** Shows the query of an address. The form stands in index.html, since its fields are the same for every query. */
export async function show(_: HTMLElement, { search: at, state, signal }: Params): Promise<View> {
  entry = (state as Entry | null) ?? { number: newest(), clip: null };
  if (state === null) history.replaceState(entry, "");
  query = queryAt(at, entry.clip);
  pause();
  speak();
  sayRecording();
  if (spoken !== document.documentElement.lang) clipShown = null; // its buttons speak the reader's language too
  spoken = document.documentElement.lang;
  if (filters) offer(filters, query);
  else await know();
  signal.throwIfAborted(); // a clip was dropped meanwhile, say
  void draw();
  return {
    title: query.references.join(", "),
    keys: {
      j: () => move(1),
      k: () => move(-1),
      " ": playChosen,
      Enter: moreLikeChosen,
      o: openChosen,
      "/": () => {
        filtersPanel.open = true;
        filtersPanel.querySelector<HTMLElement>("select[name=emotion]")?.focus();
      },
    },
    help: [
      [["j", "k"], t("find.keys.move")],
      [[t("keys.space")], t("keys.play")],
      [["Enter"], t("hit.more")],
      [["o"], t("find.keys.open")],
      [["/"], t("find.keys.filter")],
    ],
    leave: () => {
      asked?.abort();
      asked = null;
      pauseClip();
      pause();
    },
  };
}

// on a narrow screen the results come first, and filters wait to be asked for
filtersPanel.open = matchMedia("(min-width: 60rem)").matches;
