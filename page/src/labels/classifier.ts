// Training a classifier on the labels, its report, and applying it to the collection.
import { ApiError, getJson, sendJson } from "../api";
import { h } from "../html";
import { count } from "../language";
import { addressOf } from "../router";
import { sayError } from "../states";
import { start, TaskProgress, type Task } from "../tasks";
import { reportOf } from "./report";
import type { Classified, ClassifierReport, Labels } from "./types";
import { t } from "./words";

const NAME = "labels"; // of the classifier that this view trains: the command line's own
const MIN_SCORE = 50; // percent

export interface ClassifierEvents {
  trained: () => void;
  applied: () => void;
}

export class ClassifierPanel {
  readonly element = h("section", { class: "card classifier", "aria-labelledby": "classifier-title" });
  private readonly train = h("button", { type: "button", class: "strong", click: () => void this.work("training", () => this.learn()) }, t("labels.train"));
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly wrong = h("p", { class: "wrong", role: "alert" });
  private readonly blocked = h("p", { class: "note" });
  private readonly buttons = h("div", { class: "buttons" }, this.train);
  private readonly report = h("div", {});
  private readonly application = h("div", {});
  private labels: Labels = { labels: [], classifiers: [], needs: { train: 0, measure: 0, recordings: 0 } };
  private progress: TaskProgress | null = null;
  private busy = false;
  private left = false;
  private min = MIN_SCORE;

  /** @param task that trains already: the page was loaded anew meanwhile. */
  constructor(
    private readonly events: ClassifierEvents,
    task: Task | null,
  ) {
    this.element.append(
      h("h2", { id: "classifier-title" }, t("labels.classifier")),
      h("p", { class: "quiet" }, t("labels.train.how")),
      this.blocked,
      this.buttons,
      this.report,
      this.application,
    );
    if (task) void this.work("training", () => this.follow(task));
  }

  leave(): void {
    this.left = true;
    this.progress?.leave();
  }

  /** Says what can be trained now, and how good what was trained last is. */
  show(labels: Labels): void {
    this.labels = labels;
    const { needs } = labels;
    const scarce = labels.labels.filter(({ examples }) => examples > 0 && examples < needs.train);
    const few = scarce.map(({ name, examples }) => t("labels.train.few", { label: name, n: examples, of: needs.train })).join(" ");
    this.blocked.textContent = this.enough().length ? few : [t("labels.train.none", { of: needs.train }), few].filter(Boolean).join(" ");
    const newest = this.newest();
    this.report.replaceChildren(...(newest ? [reportOf(newest, needs), this.stale(newest)].filter((each) => each !== null) : []));
    this.application.replaceChildren(...(newest ? [this.applied(newest)] : []));
    this.able();
  }

  private enough(): string[] {
    return this.labels.labels.filter(({ examples }) => examples >= this.labels.needs.train).map(({ name }) => name);
  }

  private able(): void {
    this.train.disabled = this.busy || !this.enough().length;
    for (const button of this.application.querySelectorAll<HTMLButtonElement>("button")) button.disabled = this.busy;
  }

  private newest(): ClassifierReport | null {
    const byAge = [...this.labels.classifiers].sort((a, b) => b.created_at.localeCompare(a.created_at));
    return byAge[0] ?? null;
  }

  /** A note where labels were given since. */
  private stale({ classes, contrast }: ClassifierReport): HTMLElement | null {
    const before = new Map(classes.filter(({ label }) => label !== contrast).map(({ label, examples }) => [label, examples]));
    const now = this.labels.labels.filter(({ name }) => this.enough().includes(name));
    const same = now.length === before.size && now.every(({ name, examples }) => before.get(name) === examples);
    return same ? null : h("p", { class: "note" }, t("labels.report.stale"));
  }

  private applied(report: ClassifierReport): HTMLElement {
    const score = h("input", { name: "min", type: "number", min: 0, max: 100, step: 5, value: this.min, required: true, inputmode: "numeric", change: () => (this.min = Number(score.value)) });
    return h(
      "form",
      {
        class: "apply",
        submit: (event) => {
          event.preventDefault();
          void this.work("labels.applying", () => this.apply(report.name, Number(score.value) / 100));
        },
      },
      h("label", {}, h("span", {}, t("labels.apply.score")), score),
      h("button", { class: "strong" }, t("labels.apply")),
      h("p", { class: "note" }, t("labels.apply.how")),
    );
  }

  private async learn(): Promise<void> {
    const enough = this.enough();
    const all = this.labels.labels.every(({ name, examples }) => !examples || enough.includes(name));
    await this.follow(await start("train", { classifier: NAME, labels: all ? null : enough }));
  }

  /** Shows how far training is, and what came of it. */
  private async follow(task: Task): Promise<void> {
    if (this.left) return; // while it was begun
    const progress = (this.progress = new TaskProgress(task));
    this.said.after(progress.element);
    try {
      const made = await progress.end();
      if (made === null) {
        this.said.textContent = t("task.stopped");
        return;
      }
      const { classifiers } = await getJson<Labels>("labels");
      const version = classifiers.find(({ name }) => name === made)?.version ?? 1;
      if (this.left) return;
      this.said.textContent = t("labels.trained", { name: made, version });
      this.events.trained();
    } finally {
      progress.element.remove();
    }
  }

  private async apply(classifier: string, min_score: number): Promise<void> {
    const done = await sendJson<Classified>("POST", "labels/classify", { classifier, min_score });
    const given = Object.values(done.labels).reduce((sum, each) => sum + each, 0);
    const links = Object.entries(done.labels).map(([label, n]) =>
      h(
        "li",
        { class: "line" },
        h("strong", {}, label),
        h("span", { class: "quiet" }, t(n === 1 ? "labels.applied.segment" : "labels.applied.segments", { n: count(n) })),
        h("a", { href: addressOf("calls", { search: { label } }) }, t("labels.applied.calls")),
        h("a", { href: addressOf("find", { search: { ref: `label:${label}`, by: "segment" } }) }, t("labels.applied.find")),
      ),
    );
    this.said.replaceChildren(t("labels.applied", { given: count(given), of: count(done.scored + done.skipped) }), h("ul", { class: "applied" }, ...links));
    this.events.applied();
  }

  /** Does what takes a while, and says so, second by second. */
  private async work(word: "training" | "labels.applying", task: () => Promise<void>): Promise<void> {
    if (this.busy) return;
    const began = performance.now();
    const say = (): void => {
      if (word === "labels.applying") this.said.textContent = t(word, { s: Math.round((performance.now() - began) / 1000) });
    };
    this.busy = true;
    this.said.textContent = "";
    this.wrong.textContent = "";
    (word === "training" ? this.buttons : this.application).after(this.said, this.wrong);
    this.element.setAttribute("aria-busy", "true");
    this.able();
    say();
    const timer = setInterval(say, 1000);
    try {
      await task();
    } catch (error) {
      this.said.textContent = "";
      const slow = error instanceof ApiError && error.reason === "too-slow";
      this.wrong.textContent = slow ? t("labels.apply.slow") : sayError(error);
    } finally {
      clearInterval(timer);
      this.busy = false;
      this.element.removeAttribute("aria-busy");
      this.able();
    }
  }
}
