// The Labels view: segments worth a label come one by one, are heard and named, and a classifier learns from them.
import "./labels.css";

import { ApiError, getJson } from "../api";
import { holdings } from "../collection";
import { h } from "../html";
import { onPlaying, pause } from "../player";
import { addressOf, go, type Params, type View } from "../router";
import { empty, loading, sayError, trouble } from "../states";
import { inWork, type Task } from "../tasks";
import { Card } from "./card";
import { ClassifierPanel } from "./classifier";
import { inOrder, labelButtons, NUMBERED, progress } from "./names";
import { Session } from "./session";
import type { LabelReport, Labels } from "./types";
import { t } from "./words";

const QUIET = "e2vsearch.labels.quiet"; // kept where the reader wants nothing to play by itself

let session = new Session("");
let shown: LabelsShown | null = null;

onPlaying((playing) => shown?.card?.follow(playing));

export async function show(container: HTMLElement, { search, signal }: Params): Promise<View> {
  const where = search.get("where")?.trim() ?? "";
  if (session.where !== where) session = new Session(where);
  const waiting = loading();
  container.append(waiting);
  const task = await inWork("train", signal);
  const [{ status }, labels] = await Promise.all([holdings(), getJson<Labels>("labels", signal)]);
  signal.throwIfAborted();
  waiting.remove();
  if (status.counts.segments === 0) {
    container.append(empty(t("labels.title"), t("labels.nothing"), h("pre", {}, "e2vsearch ingest FOLDER")));
    return { title: "" };
  }
  const view = new LabelsShown(container, labels, task, signal);
  shown = view;
  void view.next();
  return {
    title: "",
    keys: view.keys(),
    help: [
      [["1", "…", String(NUMBERED)], t("labels.keys.give")],
      [["n"], t("labels.keys.new")],
      [["s"], t("labels.keys.skip")],
      [["u"], t("labels.keys.undo")],
      [[t("keys.space")], t("keys.play")],
    ],
    leave: () => {
      shown = null;
      view.leave();
      pause();
    },
  };
}

class LabelsShown {
  card: Card | null = null;
  private readonly stage = h("div", { class: "stage" });
  private readonly give = h("div", {});
  private readonly name = h("input", { name: "label", list: "labels-known", required: true, maxlength: 64, autocomplete: "off", placeholder: t("labels.new.example"), "aria-label": t("labels.new"), "aria-keyshortcuts": "n" });
  private readonly known = h("datalist", { id: "labels-known" });
  private readonly near = h("div", { class: "near", role: "group", "aria-label": t("labels.near.title"), hidden: true });
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly wrong = h("p", { class: "wrong", role: "alert" });
  private readonly skip = h("button", { type: "button", "aria-keyshortcuts": "s", click: () => this.act(() => this.pass()) }, t("labels.skip"), " ", h("kbd", { "aria-hidden": "true" }, "s"));
  private readonly undo = h("button", { type: "button", "aria-keyshortcuts": "u", click: () => this.act(() => this.back()) }, t("labels.undo"), " ", h("kbd", { "aria-hidden": "true" }, "u"));
  private readonly counts = h("div", {});
  private readonly where = h("textarea", { name: "where", rows: 2, spellcheck: "false", autocapitalize: "off", "aria-describedby": "labels-where-error", placeholder: "duration_s > 2" });
  private readonly whereWrong = h("p", { class: "wrong", role: "alert", id: "labels-where-error" });
  private readonly classifier: ClassifierPanel;
  private names: string[] = [];
  private nearly: string | null = null; // a label that the last one is nearly the same as
  private work = Promise.resolve(); // keys that come fast are worked off one by one
  private asked = 0;

  constructor(
    container: HTMLElement,
    labels: Labels,
    task: Task | null,
    private readonly signal: AbortSignal,
  ) {
    this.classifier = new ClassifierPanel({ trained: () => void this.learned(), applied: () => void this.refresh(true) }, task);
    const form = h(
      "form",
      {
        class: "joined",
        submit: (event) => {
          event.preventDefault();
          const label = this.name.value.trim();
          if (label) this.act(() => this.label(label));
        },
      },
      this.name,
      this.known,
      h("button", { class: "strong" }, t("labels.new.give")),
    );
    this.name.addEventListener("keydown", (event) => event.key === "Escape" && this.name.blur());
    const quiet = h("input", { type: "checkbox", checked: localStorage.getItem(QUIET) === null, change: () => (quiet.checked ? localStorage.removeItem(QUIET) : localStorage.setItem(QUIET, "1")) });
    container.append(
      h("h2", { class: "unseen" }, t("labels.title")),
      h(
        "div",
        { class: "main" },
        h(
          "section",
          { class: "card next", "aria-label": t("labels.next") },
          this.stage,
          this.give,
          form,
          h("div", { class: "line" }, h("div", { class: "buttons" }, this.skip, this.undo), h("label", { class: "tick" }, quiet, t("labels.autoplay"))),
          this.near,
          this.said,
          this.wrong,
        ),
        this.classifier.element,
      ),
      h("div", { class: "beside" }, h("section", { class: "card", "aria-label": t("labels.progress") }, h("h2", {}, t("labels.progress")), this.counts), this.filter()),
    );
    this.tell(labels);
  }

  leave(): void {
    this.classifier.leave();
  }

  keys(): Record<string, () => void> {
    const numbered = Array.from({ length: NUMBERED }, (_, at): [string, () => void] => [
      String(at + 1),
      () => {
        const label = this.names[at];
        if (label !== undefined) this.act(() => this.label(label));
      },
    ]);
    return {
      ...Object.fromEntries(numbered),
      n: () => (this.nearly === null ? this.name.focus() : this.keep()),
      y: () => this.nearly !== null && this.act(() => this.correct()),
      s: () => this.act(() => this.pass()),
      u: () => this.act(() => this.back()),
      " ": () => this.card?.play(),
    };
  }

  /** Shows the next suggestion, and asks for some where there are none left. */
  async next(anew = false): Promise<void> {
    if (!session.current || anew) {
      this.card = null; // what is not seen is not labelled
      this.stage.replaceChildren(loading());
      this.able();
    }
    try {
      await session.fill(this.signal, anew);
      this.whereWrong.textContent = "";
      this.draw();
    } catch (error) {
      if (this.signal.aborted) return;
      this.card = null;
      if (error instanceof ApiError && error.reason === "bad-filter") this.whereWrong.textContent = sayError(error);
      const missing = error instanceof ApiError && error.reason === "missing-extra";
      this.stage.replaceChildren(trouble(error, () => void this.next(anew)), ...(missing ? [h("p", {}, t("labels.without"))] : []));
      this.able();
    }
  }

  private draw(): void {
    const suggestion = session.current;
    this.card = suggestion ? new Card(suggestion) : null;
    this.stage.replaceChildren(this.card?.element ?? this.over());
    void this.card?.draw();
    this.able();
    const mayPlay = navigator.userActivation?.hasBeenActive && localStorage.getItem(QUIET) === null;
    if (mayPlay && shown === this) this.card?.play();
  }

  private over(): HTMLElement {
    pause();
    if (!session.skips) return h("p", { class: "over" }, t(session.where ? "labels.over.where" : "labels.over"));
    const again = (): void => {
      session.forgive();
      void this.next(true);
    };
    return h("div", { class: "over" }, h("p", {}, t("labels.over.skipped", { n: session.skips })), h("button", { type: "button", click: again }, t("labels.over.again")));
  }

  private able(): void {
    const none = this.card === null;
    this.skip.disabled = none;
    this.undo.disabled = session.last === null;
    for (const button of this.give.querySelectorAll("button")) button.disabled = none;
    this.name.disabled = none;
  }

  // ------------------------------------------------------------------------------------------------------ one step

  private act(step: () => Promise<void>): void {
    this.work = this.work.then(async () => {
      this.wrong.textContent = "";
      try {
        await step();
      } catch (error) {
        this.wrong.textContent = sayError(error);
      }
    });
  }

  /** Whether what would be labelled or skipped is what is seen; shows it where another is. */
  private sees(): boolean {
    if (this.card && this.card.suggestion !== session.current) {
      this.draw(); // a label was under way when the view was left, and came back to
      return false;
    }
    return this.card !== null;
  }

  private async label(label: string): Promise<void> {
    if (!this.sees()) return;
    let report: LabelReport | null;
    try {
      report = await session.give(label);
    } catch (error) {
      await this.next();
      throw error;
    }
    if (!report) return;
    if (document.activeElement === this.name) this.name.blur(); // so that the numbers are keys again
    this.name.value = "";
    this.say(report);
    const fresh = !this.names.includes(report.label);
    await Promise.all([this.next(), this.refresh(fresh)]);
  }

  private async pass(): Promise<void> {
    if (!this.sees()) return;
    session.skip();
    this.settle(t("labels.skipped"));
    await this.next();
  }

  private async back(): Promise<void> {
    const step = await session.undo();
    if (!step) return;
    const { label, before } = step;
    if (label === null) this.settle(t("labels.undone.skip"));
    else this.settle(before === null ? t("labels.undone", { label }) : t("labels.undone.before", { label, before }));
    this.draw();
    if (label !== null) await this.refresh(true);
  }

  private async correct(): Promise<void> {
    const label = this.nearly;
    if (label === null) return;
    await session.correct(label);
    this.settle(t("labels.given", { label }));
    await this.refresh(true);
  }

  private keep(): void {
    this.settle(this.said.textContent);
  }

  private say({ label, near, replaced }: LabelReport): void {
    const before = replaced[0]?.before;
    this.settle(before === undefined ? t("labels.given", { label }) : t("labels.given.before", { label, before }));
    if (near === null) return;
    this.nearly = near;
    const button = (said: string, key: string, click: () => void): HTMLElement => h("button", { type: "button", "aria-keyshortcuts": key, click }, said, " ", h("kbd", { "aria-hidden": "true" }, key));
    this.near.replaceChildren(
      h("p", { role: "status" }, t("labels.near", { label, near })),
      h("div", { class: "buttons" }, button(t("labels.near.yes", { near }), "y", () => this.act(() => this.correct())), button(t("labels.near.no", { label }), "n", () => this.keep())),
    );
    this.near.hidden = false;
  }

  private settle(said: string | null): void {
    this.nearly = null;
    this.near.hidden = true;
    this.said.textContent = said;
  }

  // -------------------------------------------------------------------------------------------------- what there is

  private tell(labels: Labels): void {
    const ordered = inOrder(labels.labels);
    this.names = ordered.map(({ name }) => name);
    this.give.replaceChildren(labelButtons(ordered, (label) => this.act(() => this.label(label))));
    this.known.replaceChildren(...this.names.map((value) => h("option", { value })));
    this.counts.replaceChildren(
      progress({ ...labels, labels: ordered }, (label) => {
        this.settle(t("labels.removed", { label }));
        void this.refresh(true);
      }),
    );
    this.classifier.show(labels);
    this.able();
  }

  /** Asks again what there is; all views are told `everywhere` where names have come or gone. */
  private async refresh(everywhere = false): Promise<void> {
    const mine = ++this.asked;
    const labels = await getJson<Labels>("labels");
    if (mine === this.asked) this.tell(labels);
    if (everywhere) await holdings(true);
  }

  private async learned(): Promise<void> {
    await this.refresh();
    await this.next(true); // what the new classifier is undecided about
  }

  private filter(): HTMLElement {
    this.where.value = session.where;
    return h(
      "details",
      { class: "card only", open: Boolean(session.where) },
      h("summary", {}, h("h2", {}, t("labels.only"))),
      h(
        "form",
        {
          submit: (event) => {
            event.preventDefault();
            const where = this.where.value.trim();
            go(addressOf("labels", { search: where ? { where } : "" }));
          },
        },
        h("label", {}, h("span", {}, t("labels.only.where")), this.where),
        this.whereWrong,
        h("button", {}, t("labels.only.apply")),
      ),
    );
  }
}
