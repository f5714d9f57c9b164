// The Map view: all points of a stored map, coloured, pointed at, heard, enclosed and listed.
import "./map.css";

import { ApiError, getJson } from "../api";
import { holdings } from "../collection";
import { emotionTag } from "../emotion";
import { h, span } from "../html";
import { count, percent } from "../language";
import { pause, toggle } from "../player";
import { addressOf, go, type Params, type View } from "../router";
import { empty, loading, trouble } from "../states";
import { inWork, type Task } from "../tasks";
import { clusterList } from "./clusters";
import { channels, colouringBy, css, type Colouring } from "./colouring";
import { detailsOf, idOf, soundOf } from "./details";
import { MapMaker } from "./maker";
import { Plot, type Tool } from "./plot";
import { fetchPoints, type Points } from "./points";
import { emotionOf, Selection } from "./selection";
import type { Cluster, MapSummary, MapView } from "./types";
import { t } from "./words";

const NAMED = 24; // clusters with a name on the map: the largest
const HOVER_MS = 200; // until what is pointed at is played, or asked about
const ALPHA = 205;
const TOOLS: readonly Tool[] = ["move", "lasso", "box"];

export async function show(container: HTMLElement, params: Params): Promise<View> {
  const waiting = loading();
  container.append(waiting);
  const { signal } = params;
  const task = await inWork("map", signal);
  const { maps } = await getJson<{ maps: MapSummary[] }>("map", signal);
  const wanted = params.search.get("name") ?? maps[0]?.name;
  const map = maps.find(({ name }) => name === wanted);
  if (!map) {
    waiting.remove();
    const unknown = params.search.has("name") ? t("map.unknown", { name: wanted ?? "" }) : null;
    const maker = new MapMaker("map", task);
    container.append(empty(t("map.nothing.title"), unknown, t("map.nothing.how"), maker.element));
    return { title: "", leave: () => maker.leave() };
  }
  const path = `map/${encodeURIComponent(map.name)}`;
  const [view, points, { filters }] = await Promise.all([getJson<MapView>(path, signal), fetchPoints(map.name, signal), holdings()]);
  signal.throwIfAborted();
  waiting.remove();
  const shown = new MapShown(container, maps, view, points, task, Object.keys(filters.metadata), params.search);
  return { title: map.name === "map" ? "" : map.name, keys: shown.keys, help: shown.help(), leave: () => shown.leave() };
}

class MapShown {
  readonly keys: Record<string, () => void>;
  private readonly plot: Plot;
  private readonly card = h("div", { class: "pointed", hidden: true });
  private readonly names = h("div", { class: "names", "aria-hidden": "true" });
  private readonly legend = h("div", { class: "tags legend" });
  private readonly side = h("div", { class: "side" });
  private readonly failed = h("div");
  private readonly maker: MapMaker;
  private readonly hover = h("input", { type: "checkbox", id: "map-hover" });
  private readonly withNames = h("input", { type: "checkbox", id: "map-names", checked: true, change: () => this.drawNames() });
  private readonly nameOf: Map<number, string>;
  private readonly scheme = matchMedia("(prefers-color-scheme: dark)");
  private readonly recolour = (): void => void this.colour();
  private colouring: Colouring | null = null;
  private by: string;
  private lit: number | null = null; // a value of the legend
  private selection: Selection | null = null;
  private timer = 0;
  private current = -1;
  private anchor: number | null = null; // the point from which Shift with an arrow selects

  constructor(
    container: HTMLElement,
    maps: readonly MapSummary[],
    private readonly view: MapView,
    private readonly points: Points,
    task: Task | null,
    keys: readonly string[],
    search: URLSearchParams,
  ) {
    this.nameOf = new Map(view.clusters.map((cluster) => [cluster.number, cluster.name]));
    this.by = search.get("by") ?? (points.emotions.length ? "emotion" : "cluster");
    this.plot = new Plot(points.xy, {
      pointed: (point, x, y) => this.pointed(point, x, y),
      clicked: (point) => this.choose(point, true),
      enclosed: (found, add) => this.select(add && this.selection ? [...new Set([...this.selection.chosen, ...found])] : found),
      moved: () => this.drawNames(),
    });
    this.plot.canvas.setAttribute("role", "img");
    this.plot.canvas.setAttribute("aria-label", t("map.label.canvas", { n: count(points.points) }));
    this.plot.element.append(this.names, this.card);
    this.keys = this.bindings();
    this.plot.canvas.addEventListener("keydown", (event) => this.onKey(event));
    this.maker = new MapMaker(view.name, task, view);
    const stage = h("div", { class: "stage" }, this.toolbar(maps, keys), this.plot.element, this.legend, this.foot(), this.maker.element);
    container.append(stage, h("div", { class: "beside" }, this.failed, this.side, this.clusters()));
    this.scheme.addEventListener("change", this.recolour);
    void this.colour().then(() => {
      this.hits(search.get("hits"));
      container.dataset["ready"] = "yes";
    });
  }

  leave(): void {
    this.scheme.removeEventListener("change", this.recolour);
    clearTimeout(this.timer);
    this.maker.leave();
    this.plot.destroy();
    pause();
  }

  help(): [string[], string][] {
    return [
      [["← ↑ → ↓"], t("map.keys.step")],
      [["⇧", "← ↑ → ↓"], t("map.keys.box")],
      [["Enter", t("keys.space")], t("map.keys.play")],
      [["1", "2", "3"], t("map.keys.tools")],
      [["+", "−", "0"], t("map.keys.zoom")],
      [["Esc"], t("map.keys.clear")],
    ];
  }

  // ------------------------------------------------------------------------------------------------------ controls

  private toolbar(maps: readonly MapSummary[], keys: readonly string[]): HTMLElement {
    const option = (value: string, name: string, chosen: string): HTMLElement => h("option", { value, selected: value === chosen }, name);
    const choose = h("select", { change: () => go(addressOf("map", { search: { name: choose.value } })) }, ...maps.map(({ name }) => option(name, name, this.view.name)));
    const own = ["emotion", "cluster", "label"] as const;
    const by = h(
      "select",
      { change: () => void ((this.by = by.value), (this.lit = null), this.colour()) },
      ...own.filter((name) => name !== "label" || this.points.labels.length).map((name) => option(name, t(`map.by.${name}`), this.by)),
      ...keys.map((key) => option(`meta:${key}`, key, this.by)),
    );
    const tools = TOOLS.map((tool) =>
      h("label", {}, h("input", { type: "radio", name: "tool", value: tool, checked: tool === this.plot.tool, change: () => this.use(tool) }), h("span", {}, t(`map.tool.${tool}`))),
    );
    const zoom = (name: "map.in" | "map.out" | "map.whole", sign: string, act: () => void): HTMLElement =>
      h("button", { type: "button", class: "plain round", title: t(name), "aria-label": t(name), click: act }, sign);
    return h(
      "div",
      { class: "toolbar" },
      maps.length > 1 ? h("label", {}, h("span", {}, t("map.choose")), choose) : null,
      h("label", {}, h("span", {}, t("map.colour")), by),
      h("fieldset", { class: "choice" }, h("legend", { class: "unseen" }, t("map.tool")), ...tools),
      h("span", { class: "zoom" }, zoom("map.in", "+", () => this.plot.zoom(1.5)), zoom("map.out", "−", () => this.plot.zoom(1 / 1.5)), zoom("map.whole", "⤢", () => this.plot.reset())),
      h("label", { class: "tick" }, this.hover, h("span", {}, t("map.hover"))),
      h("label", { class: "tick" }, this.withNames, h("span", {}, t("map.names"))),
    );
  }

  private foot(): HTMLElement {
    const { view, points } = this;
    const line = t(`map.line.${view.by}`, { n: count(points.points), clusters: view.clusters.length, none: count(view.none) });
    const more = [
      view.where && `(${view.where})`,
      view.unplaced ? t("map.line.unplaced", { n: count(view.unplaced) }) : "",
      view.left_out.length ? t("map.left", { keys: view.left_out.join(", ") }) : "",
      this.plot.usesWebGl ? "" : t("map.fallback"),
    ];
    return h("p", { class: "note" }, [line, ...more.filter(Boolean)].join(" · "));
  }

  private use(tool: Tool): void {
    this.plot.tool = tool;
    this.plot.canvas.dataset["tool"] = tool;
    const radio = document.querySelector<HTMLInputElement>(`.view.map input[name=tool][value=${tool}]`);
    if (radio) radio.checked = true;
  }

  private bindings(): Record<string, () => void> {
    const play = (): void => this.choose(this.current < 0 ? null : this.current, true);
    return {
      "1": () => this.use("move"),
      "2": () => this.use("lasso"),
      "3": () => this.use("box"),
      "+": () => this.plot.zoom(1.5),
      "-": () => this.plot.zoom(1 / 1.5),
      "0": () => this.plot.reset(),
      Enter: play,
      " ": play,
      Escape: () => this.select([]),
    };
  }

  private onKey(event: KeyboardEvent): void {
    const steps: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const from = this.current;
    this.choose(this.plot.step(...step), false);
    this.anchor = event.shiftKey ? (this.anchor ?? from) : null;
    if (this.anchor !== null && this.anchor >= 0) this.select(this.plot.between(this.anchor, this.current));
  }

  // ------------------------------------------------------------------------------------------------------- colours

  private async colour(): Promise<void> {
    const by = this.by;
    try {
      const colouring = await colouringBy(by, this.points, this.nameOf);
      if (by !== this.by) return; // another was chosen meanwhile
      this.colouring = colouring;
    } catch (error) {
      if (by === this.by) this.fail(error);
      return;
    }
    this.failed.replaceChildren();
    this.plot.colours(this.colouring.codes, this.colouring.values.map(({ colour }) => channels(colour, ALPHA)));
    this.drawLegend();
    this.light();
    for (const swatch of this.side.parentElement?.querySelectorAll<HTMLElement>("[data-cluster]") ?? []) {
      swatch.querySelector<HTMLElement>(".swatch")?.style.setProperty("--emotion", this.clusterColour(Number(swatch.dataset["cluster"])));
    }
    this.drawNames();
  }

  private clusterColour(number: number): string {
    return this.points.colours[number]?.[this.scheme.matches ? 1 : 0] ?? css("--no-category");
  }

  private drawLegend(): void {
    const values = this.colouring?.values ?? [];
    const tags = values.map(({ name, colour, count: n }, at) => {
      const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.setProperty("--emotion", colour);
      const click = (): void => {
        this.lit = this.lit === at ? null : at;
        this.drawLegend();
        this.light();
      };
      return h("button", { type: "button", class: "tag", "aria-pressed": String(this.lit === at), hidden: n === 0, click }, swatch, name, h("span", { class: "quiet" }, percent(n / Math.max(1, this.points.points))));
    });
    this.legend.replaceChildren(...tags);
  }

  /** Brightens what is selected, or has the value of the legend that was clicked. */
  private light(): void {
    const flags = new Uint8Array(this.points.points);
    if (this.selection) for (const point of this.selection.chosen) flags[point] = 1;
    else if (this.lit !== null) this.colouring?.codes.forEach((code, at) => (flags[at] = code === this.lit ? 1 : 0));
    this.plot.lit(this.selection || this.lit !== null ? flags : null);
  }

  private drawNames(): void {
    const placed: [number, number, number, number][] = [];
    const { clientWidth: width, clientHeight: height } = this.plot.element;
    const shown = this.withNames.checked ? [...this.view.clusters].sort((a, b) => b.size - a.size).slice(0, NAMED) : [];
    const names = shown.flatMap((cluster) => {
      const [x, y] = this.plot.pixels([cluster.x, cluster.y]);
      const wide = 8 * cluster.name.length + 16;
      if (x < 0 || y < 0 || x > width || y > height) return [];
      const left = Math.min(Math.max(4, x - wide / 2), Math.max(4, width - wide - 4));
      const box = [left, y - 13, left + wide, y + 13] as [number, number, number, number];
      if (placed.some((other) => box[0] < other[2] && box[2] > other[0] && box[1] < other[3] && box[3] > other[1])) return [];
      placed.push(box);
      const name = h("span", {}, cluster.name);
      name.style.left = `${left + wide / 2}px`;
      name.style.top = `${y}px`;
      name.style.borderColor = this.clusterColour(cluster.number);
      return [name];
    });
    this.names.replaceChildren(...names);
  }

  // -------------------------------------------------------------------------------------------------------- points

  private pointed(point: number | null, x: number, y: number): void {
    clearTimeout(this.timer);
    if (point === null) {
      if (this.current < 0) this.card.hidden = true;
      else this.describe(this.current);
      return;
    }
    this.describe(point, [x, y]);
    if (this.hover.checked) this.timer = setTimeout(() => this.play(point, true), HOVER_MS);
  }

  /** Marks a point and says what it is; plays it too. */
  private choose(point: number | null, play: boolean): void {
    this.current = point ?? -1;
    this.plot.mark(this.current);
    if (this.current < 0) {
      this.card.hidden = true;
      return;
    }
    this.describe(this.current);
    if (play) this.play(this.current, false);
  }

  private play(point: number, anew: boolean): void {
    if (anew) pause();
    toggle(soundOf(idOf(this.points, point))).catch((error: unknown) => this.fail(error));
  }

  private describe(point: number, at: [number, number] = this.plot.pixels(this.plot.spot(point))): void {
    const { points } = this;
    const id = idOf(points, point);
    const times = points.by === "segment" ? span(points.start_s[point]!, points.end_s[point]!) : "";
    const name = h("strong", {}, `call:${points.recordings[point]}`);
    const date = h("span", { class: "quiet" });
    const words = h("p", { class: "words" });
    const label = points.labels[points.label[point]!];
    const cluster = this.nameOf.get(points.cluster[point]!) ?? t("map.noCluster");
    this.card.replaceChildren(
      h("p", { class: "line" }, name, h("span", {}, times), date),
      h("p", { class: "line" }, emotionTag(emotionOf(points, point)), label ? h("span", { class: "tag own" }, label) : null),
      words,
      h("p", { class: "note" }, cluster),
    );
    this.card.dataset["point"] = id;
    this.card.hidden = false;
    const { clientWidth: width, clientHeight: height } = this.plot.element;
    const place = (): void => {
      this.card.style.left = `${Math.max(4, Math.min(at[0] + 14, width - this.card.offsetWidth - 8))}px`;
      this.card.style.top = `${Math.max(4, Math.min(at[1] + 14, height - this.card.offsetHeight - 8))}px`;
    };
    place();
    clearTimeout(this.timer);
    const ask = (): void => {
      detailsOf(id).then(
        (details) => {
          if (this.card.dataset["point"] !== id) return;
          name.textContent = details.name;
          date.textContent = details.recorded_at.slice(0, 10);
          words.textContent = details.text === null ? "" : `“${details.text}”`;
          place();
        },
        () => undefined, // its columns are shown, and playing says what is wrong
      );
    };
    setTimeout(() => this.card.dataset["point"] === id && ask(), HOVER_MS / 4);
  }

  // ----------------------------------------------------------------------------------------------------- selection

  private select(chosen: number[], title = t("map.selected", { n: count(chosen.length) })): void {
    this.selection = chosen.length
      ? new Selection(this.points, chosen, title, {
          cleared: () => this.select([]),
          chosen: (point) => this.choose(point, false),
          labelled: () => void holdings(true).catch(() => undefined),
        })
      : null;
    this.side.replaceChildren(...(this.selection ? [this.selection.element] : []));
    this.selection?.draw();
    this.light();
  }

  /** Selects the hits of a query, given as numbers of segments: `12,7`. */
  private hits(given: string | null): void {
    if (!given) return;
    const numbers = given.split(",").map(Number);
    const place = new Map(Array.from(this.points.ids, (id, at) => [id, at]));
    const found = this.points.by === "segment" ? numbers.flatMap((number) => place.get(number) ?? []) : [];
    const title = t("map.hits", { n: found.length, of: numbers.length });
    if (found.length) this.select(found, title);
    else this.side.replaceChildren(h("p", { class: "card" }, title));
  }

  private clusters(): HTMLElement {
    const list = clusterList(this.view.clusters, ({ number }: Cluster) => this.clusterColour(number), {
      selected: (cluster) => {
        const chosen: number[] = [];
        this.points.cluster.forEach((number, at) => number === cluster.number && chosen.push(at));
        this.select(chosen, `${cluster.name}: ${t("map.selected", { n: count(chosen.length) })}`);
      },
      failed: (error) => this.fail(error),
    });
    return h("section", { class: "card", "aria-labelledby": "clusters-title" }, h("h2", { id: "clusters-title" }, t("map.clusters")), list);
  }

  private fail(error: unknown): void {
    if (error instanceof ApiError || error instanceof Error) this.failed.replaceChildren(trouble(error));
  }
}
