// Making a map, or making one anew: the service does it, and goes on where the page is left.
import { h } from "../html";
import { addressOf, go } from "../router";
import { sayError } from "../states";
import { start, TaskProgress, type Task } from "../tasks";
import type { MapView } from "./types";
import { t } from "./words";

export class MapMaker {
  readonly element = h("div", { class: "maker" });
  private readonly button: HTMLButtonElement;
  private readonly said = h("p", { class: "wrong", role: "alert" });
  private progress: TaskProgress | null = null;
  private left = false;

  /**
   * @param task that makes it already.
   * @param made the map that there is, which is made anew as it was.
   */
  constructor(
    private readonly name: string,
    task: Task | null,
    private readonly made: MapView | null = null,
  ) {
    this.button = h("button", { type: "button", class: made ? "plain" : "strong", click: () => void this.make() }, t(made ? "map.make.anew" : "map.make"));
    this.element.append(this.button, this.said);
    if (task) void this.follow(task);
  }

  leave(): void {
    this.left = true;
    this.progress?.leave();
  }

  private async make(): Promise<void> {
    this.button.disabled = true;
    this.said.textContent = "";
    const { by = "segment", where = null } = this.made ?? {};
    try {
      await this.follow(await start("map", { name: this.name, by, where }));
    } catch (error) {
      this.fail(error);
    }
  }

  private async follow(task: Task): Promise<void> {
    if (this.left) return; // while it was begun
    this.progress = new TaskProgress(task);
    this.button.hidden = true;
    this.element.append(this.progress.element);
    try {
      const name = await this.progress.end();
      if (name !== null) go(addressOf("map", { search: name === "map" ? "" : { name } }));
      else this.again(t("task.stopped"));
    } catch (error) {
      this.fail(error);
    }
  }

  private fail(error: unknown): void {
    this.again(sayError(error));
  }

  private again(why: string): void {
    this.progress?.element.remove();
    this.button.hidden = false;
    this.button.disabled = false;
    this.button.focus();
    this.said.textContent = why;
  }
}
