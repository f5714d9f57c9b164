// The calls of the collection, the newest first, a page at a time; filtered, and by the words said.
import { ApiError, getJson } from "../api";
import { holdings } from "../collection";
import { filtersOn, queryAt, searchOf, whereOf, type Query } from "../find/query";
import { t as find } from "../find/words";
import { sayHint } from "../hint";
import { h } from "../html";
import { addressOf, go, type Params, type View } from "../router";
import { empty, sayError, trouble } from "../states";
import type { Recording, RecordingPage } from "../types";
import { callFacts } from "./facts";
import { filterForm } from "./filters";
import { sharesBar } from "./shares";
import { t } from "./words";

const PAGE = 30;
const METADATA_SHOWN = 4;
const SHARES_NAMED = 3;

/** What was shown last: coming back to it from a call that it opened, it is there at once, at the same call. */
let kept: { address: string; pages: RecordingPage[]; opened: string | null } | null = null;

let panelOpen: boolean | null = null; // as the reader left the filters; null: not touched yet

/** The address of the list that was shown last, with its filters. */
export function lastList(): string {
  return kept?.address ?? addressOf("calls");
}

export async function showList(container: HTMLElement, { search, signal }: Params): Promise<View> {
  const query = queryAt(search, null);
  const { filters, status } = await holdings();
  signal.throwIfAborted();
  if (status.counts.recordings === 0) {
    container.append(empty(t("calls.title"), t("calls.none.yet"), h("code", {}, "e2vsearch ingest FOLDER")));
    return { title: "" };
  }
  const wrong = h("p", { class: "wrong", role: "alert", id: "calls-where-error" });
  const form = filterForm(filters, query, wrong, (next) => {
    const address = addressOf("calls", { search: searchOf(next) });
    if (address !== location.href) go(address);
  });
  const list = new List(query, filters.fields, wrong, signal);
  const narrow = !matchMedia("(min-width: 60rem)").matches;
  const panel = h("details", { class: "panel", open: panelOpen ?? !narrow, toggle: () => (panelOpen = panel.open) }, h("summary", {}, h("h3", {}, find("filters.title")), h("span", { class: "count" }, filtersOn(query) ? find("filters.on", { n: filtersOn(query) }) : "")), form);
  container.append(h("h2", {}, t("calls.title")), panel, list.element);
  await list.start();
  signal.throwIfAborted();
  return {
    title: "",
    keys: {
      j: () => list.move(1),
      k: () => list.move(-1),
      Enter: () => list.open(),
      "/": () => {
        panel.open = true;
        form.querySelector<HTMLElement>("input")?.focus();
      },
    },
    help: [
      [["j", "k"], t("calls.keys.move")],
      [["Enter"], t("calls.keys.open")],
      [["/"], t("calls.keys.filter")],
    ],
  };
}

class List {
  private readonly rows = h("ol", { class: "calls-list" });
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly foot = h("div", { class: "older" });
  readonly element = h("section", { "aria-label": t("calls.title") }, this.said, this.rows, this.foot);
  private readonly address: string;
  private readonly pages: RecordingPage[] = [];
  private chosen = -1;

  constructor(
    private readonly query: Query,
    private readonly fields: readonly string[],
    private readonly wrong: HTMLElement,
    private readonly signal: AbortSignal,
  ) {
    this.address = addressOf("calls", { search: searchOf(query) });
  }

  async start(): Promise<void> {
    const before = kept;
    if (before?.address !== this.address || before.opened === null) {
      await this.next();
      return;
    }
    for (const page of before.pages) this.add(page);
    this.finish();
    const opened = this.pages.flatMap((each) => each.recordings).findIndex(({ id }) => id === before.opened);
    requestAnimationFrame(() => this.choose(opened)); // once it is on the page
  }

  move(by: 1 | -1): void {
    this.choose(Math.min(this.rows.children.length - 1, Math.max(0, this.chosen + by)));
  }

  open(): void {
    this.rows.children[this.chosen]?.querySelector("a")?.click();
  }

  private choose(at: number): void {
    this.rows.children[at]?.querySelector<HTMLElement>("a")?.focus();
  }

  private async next(): Promise<void> {
    if (this.element.hasAttribute("aria-busy")) return; // its button was clicked twice
    const after = this.pages.at(-1)?.next;
    const asked = new URLSearchParams({ order: "newest", limit: String(PAGE) });
    const where = whereOf(this.query, this.fields);
    if (where) asked.set("where", where);
    if (this.query.text) asked.set("text", this.query.text);
    if (after) asked.set("after", after);
    this.element.setAttribute("aria-busy", "true");
    try {
      this.add(await getJson<RecordingPage>(`recordings?${asked}`, this.signal));
      this.finish();
    } catch (error) {
      if (!this.signal.aborted) this.fail(error);
    } finally {
      this.element.removeAttribute("aria-busy");
    }
  }

  private add(page: RecordingPage): void {
    this.pages.push(page);
    kept = { address: this.address, pages: this.pages, opened: null };
    const before = this.rows.children.length;
    this.rows.append(...page.recordings.map((each, at) => this.row(each, page.emotions?.[each.id] ?? {}, before + at)));
  }

  /** Says how many there are, and offers more of them, or another value where there are none. */
  private finish(): void {
    const n = this.rows.children.length;
    const more = this.pages.at(-1)?.next ?? null;
    this.said.textContent = n ? t(more ? "calls.shown.more" : n === 1 ? "calls.shown.one" : "calls.shown", { n }) : "";
    const button = h("button", { type: "button", click: () => void this.further(n) }, t("calls.more.pages"));
    this.foot.replaceChildren(...(more ? [button] : []), ...(n ? [] : [this.nothing()]));
  }

  private async further(n: number): Promise<void> {
    await this.next();
    if (!this.signal.aborted) this.choose(n); // the first of those that came
  }

  private nothing(): HTMLElement {
    const hint = this.pages[0]?.hint;
    const clear = h("a", { class: "button", href: addressOf("calls") }, find("filters.clear"));
    return empty(t("calls.none"), ...(hint ? sayHint(hint, this.query, "calls") : [t("calls.none.filtered")]), filtersOn(this.query) ? clear : null);
  }

  private fail(error: unknown): void {
    const byHand = error instanceof ApiError && error.reason === "bad-filter" && this.query.where.trim();
    this.foot.replaceChildren(byHand ? "" : trouble(error, () => void this.next()));
    if (!byHand) return;
    this.wrong.textContent = sayError(error);
    this.wrong.closest(".panel")?.setAttribute("open", "");
    this.wrong.parentElement?.querySelector("textarea")?.setAttribute("aria-invalid", "true");
  }

  private row(recording: Recording, emotions: Record<string, number>, at: number): HTMLElement {
    const { emotion } = this.query;
    const shown = emotion && emotions[emotion] ? { [emotion]: emotions[emotion], ...emotions } : emotions; // what is asked for is said first
    const link = h("a", { href: addressOf("calls", { id: recording.id }), click: () => kept && (kept.opened = recording.id) }, recording.name);
    return h(
      "li",
      { class: "call-row card", focusin: () => (this.chosen = at) },
      h("div", { class: "who" }, h("h3", { title: recording.uri }, link), callFacts(recording, METADATA_SHOWN)),
      Object.keys(shown).length ? sharesBar(shown, SHARES_NAMED) : h("p", { class: "note" }, t("calls.shares.none")),
    );
  }
}

