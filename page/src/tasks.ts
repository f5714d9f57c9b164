// Work that goes on in the service while the page is open, or is not: making a map, training a classifier.
import { ApiError, getJson, sendJson } from "./api";
import { h } from "./html";
import { t } from "./language";

export type TaskKind = "map" | "train";

export interface Task {
  id: string;
  kind: TaskKind;
  state: "waiting" | "running" | "done" | "failed" | "stopped";
  started_at: string;
  step: string;
  done: number;
  of: number;
  made: string | null;
  error: { reason: string; message: string } | null;
}

const EVERY_MS = 500;
const STEPS = ["reading vectors", "finding neighbours", "drawing", "grouping", "clustering", "describing", "measuring", "training"] as const;

/**
 * The task of that kind that is in work, whoever has started it; null where none is, or that cannot be told.
 *
 * To be asked before what it makes, which is there once it no longer is in work.
 */
export async function inWork(kind: TaskKind, signal: AbortSignal): Promise<Task | null> {
  const { tasks } = await getJson<{ tasks: Task[] }>("tasks", signal).catch(() => ({ tasks: [] }));
  return tasks.find((each) => each.kind === kind && (each.state === "running" || each.state === "waiting")) ?? null;
}

export function start(kind: TaskKind, body: object): Promise<Task> {
  return sendJson<Task>("POST", `tasks/${kind}`, body);
}

/** Says how far a task is until it has ended; `made` is the name of what it made, null where it was stopped. */
export class TaskProgress {
  readonly element = h("div", { class: "task" });
  private readonly said = h("p", { class: "note", role: "status" });
  private readonly bar = h("progress", {});
  private left = false;

  constructor(private task: Task) {
    const stop = h("button", { type: "button", click: () => void this.stop(stop) }, t("task.stop"));
    this.bar.setAttribute("aria-label", t(`task.${task.kind}`));
    this.element.append(this.said, h("p", { class: "joined" }, this.bar, stop));
    this.show();
  }

  /** No longer asks; the task goes on. */
  leave(): void {
    this.left = true;
  }

  async end(): Promise<string | null> {
    while (this.task.state === "waiting" || this.task.state === "running") {
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
      if (!this.left) this.task = await getJson<Task>(`tasks/${this.task.id}`);
      if (this.left) return new Promise(() => undefined); // nobody waits for it here
      this.show();
    }
    const { error, made } = this.task;
    if (error) throw new ApiError(500, error.message, error.reason);
    return made;
  }

  private show(): void {
    const { kind, state, started_at, step, done, of } = this.task;
    const seconds = Math.max(0, Math.round((Date.now() - Date.parse(started_at)) / 1000));
    const known = STEPS.find((each) => each === step);
    const words = state === "waiting" ? t("task.waiting") : known ? t(`task.step.${known}`) : "";
    const text = [t(`task.${kind}`), words, t("task.seconds", { s: seconds })].filter(Boolean).join(" · ");
    if (this.said.textContent !== text) this.said.textContent = text;
    if (of > 1) {
      this.bar.max = of;
      this.bar.value = done;
    } else this.bar.removeAttribute("value");
  }

  private async stop(button: HTMLButtonElement): Promise<void> {
    button.disabled = true;
    await sendJson("DELETE", `tasks/${this.task.id}`).catch(() => (button.disabled = false));
  }
}
