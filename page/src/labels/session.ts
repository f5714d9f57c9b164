// One sitting of labelling: what is suggested, what was given and skipped, and the way back.
import { ApiError, getJson, sendJson } from "../api";
import type { LabelReport, Suggestion } from "./types";

const BATCH = 10; // asked for at once; later ones follow from what is labelled by then
const MOST = 200; // that the service suggests

/** What was done with one suggestion. */
export interface Step {
  suggestion: Suggestion;
  label: string | null; // null: it was skipped
  before: string | null; // the label that it had from somebody else meanwhile
}

export class Session {
  given = 0;
  private queue: Suggestion[] = [];
  private readonly steps: Step[] = [];
  private readonly skipped = new Set<string>();
  private readonly done = new Set<string>();

  constructor(readonly where: string) {}

  get current(): Suggestion | null {
    return this.queue[0] ?? null;
  }

  /** What undoing would take back. */
  get last(): Step | null {
    return this.steps.at(-1) ?? null;
  }

  get skips(): number {
    return this.skipped.size;
  }

  /** Asks for more where nothing is left; `anew` also where something is. */
  async fill(signal: AbortSignal, anew = false): Promise<void> {
    if (this.queue.length && !anew) return;
    const search = new URLSearchParams({ k: String(Math.min(MOST, BATCH + this.skipped.size)) });
    if (this.where) search.set("where", this.where);
    const { suggestions } = await getJson<{ suggestions: Suggestion[] }>(`labels/suggestions?${search}`, signal);
    this.queue = suggestions.filter(({ segment }) => !this.skipped.has(segment) && !this.done.has(segment));
  }

  /** Gives the current segment a label; the report says which label is nearly the same. */
  async give(label: string): Promise<LabelReport | null> {
    const suggestion = this.current;
    if (!suggestion) return null;
    const report = await sendJson<LabelReport>("POST", "labels", { label, segments: [suggestion.segment] });
    const [failure] = report.failures;
    if (failure) {
      this.drop(suggestion); // it was removed meanwhile
      throw new ApiError(404, failure.message, failure.reason);
    }
    const before = report.replaced[0]?.before ?? (report.already ? report.label : null);
    this.pass({ suggestion, label: report.label, before });
    this.done.add(suggestion.segment);
    this.given++;
    return report;
  }

  skip(): void {
    const suggestion = this.current;
    if (!suggestion) return;
    this.pass({ suggestion, label: null, before: null });
    this.skipped.add(suggestion.segment);
  }

  /** Gives what was labelled last another label in its place. */
  async correct(label: string): Promise<void> {
    const step = this.last;
    if (step?.label === null || !step) return;
    await sendJson("POST", "labels", { label, segments: [step.suggestion.segment] });
    step.label = label;
  }

  /** Takes the last step back: the segment has the label that it had, and is the current one again. */
  async undo(): Promise<Step | null> {
    const step = this.last;
    if (!step) return null;
    const { suggestion, label, before } = step;
    if (label !== null && before === null) await sendJson("DELETE", `labels/${encodeURIComponent(label)}?segment=${suggestion.segment}`);
    else if (label !== null && before !== label) await sendJson("POST", "labels", { label: before, segments: [suggestion.segment] });
    this.steps.pop();
    this.skipped.delete(suggestion.segment);
    if (this.done.delete(suggestion.segment)) this.given--;
    this.queue = [suggestion, ...this.queue.filter(({ segment }) => segment !== suggestion.segment)];
    return step;
  }

  /** Has what was skipped suggested again. */
  forgive(): void {
    this.skipped.clear();
  }

  private pass(step: Step): void {
    this.steps.push(step);
    this.drop(step.suggestion); // which need not be the first any more: more may have come meanwhile
  }

  private drop({ segment }: Suggestion): void {
    this.queue = this.queue.filter((each) => each.segment !== segment);
  }
}
