// One panel over time: a line for each value or group, a band for its interval, a point for each period.
import { h, svg } from "../html";
import { count } from "../language";
import { addressOf, go } from "../router";
import { paint, type Line, type Panel } from "./panels";
import { interval, sayRow } from "./say";
import type { Row, Trends } from "./types";
import { t } from "./words";

const [WIDTH, HEIGHT] = [380, 210];
const [LEFT, TOP, BOTTOM] = [38, 10, 36];
const NAMES = 82; // px at the right for the lines' names
const TICKS = 5; // periods that are named at most
const LINE_PX = 12; // between two names
const LETTERS = 13; // of a name
const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5];

export interface Scale {
  top: number; // the largest share on the axis
  starts: readonly string[]; // the first days of all periods
}

/** Draws a panel; `told` says which point is pointed at, null for none. */
export function chart(trends: Trends, panel: Panel, lines: readonly Line[], scale: Scale, told: (row: Row | null) => void): SVGElement {
  const right = lines.length > 1 ? NAMES : 14;
  const days = scale.starts.map((start) => Date.parse(start));
  const [first, last] = [Math.min(...days), Math.max(...days)];
  const x = (row: Row): number => LEFT + 8 + (last > first ? (Date.parse(row.start!) - first) / (last - first) : 0.5) * (WIDTH - LEFT - right - 16);
  const y = (share: number): number => HEIGHT - BOTTOM - (share / scale.top) * (HEIGHT - TOP - BOTTOM);
  const drawn = lines.map((line) => drawLine(trends, line, x, y, told));
  const picture = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": t("trends.chart", { name: panel.name }) },
    ...axes(lines, scale, right, x, y),
    ...drawn.map(({ band }) => band),
    ...drawn.map(({ line }) => line),
    ...(lines.length > 1 ? names(lines, y) : []),
  );
  walk(picture, drawn.map(({ points }) => points));
  return picture;
}

function drawLine(trends: Trends, line: Line, x: (row: Row) => number, y: (share: number) => number, told: (row: Row | null) => void): { band: SVGElement; line: SVGElement; points: SVGElement[] } {
  const at = (row: Row, share: number): string => `${x(row).toFixed(1)} ${y(share).toFixed(1)}`;
  const { rows } = line;
  const edge = [...rows.map((row) => at(row, row.high)), ...rows.toReversed().map((row) => at(row, row.low))];
  // a single period has no width: its interval is a stroke
  const band = rows.length > 1 ? svg("path", { class: "band", d: `M${edge.join("L")}Z` }) : svg("path", { class: "whisker", d: `M${edge.join("L")}` });
  if (rows.every(({ segments }) => segments === 0)) band.classList.add("never");
  const points = rows.map((row) => {
    const href = addressOf("calls", { search: { where: row.where } });
    const centre = { cx: x(row).toFixed(1), cy: y(row.share).toFixed(1) };
    const point = svg("a", { href, tabindex: -1, "aria-label": sayRow(trends, row) }, svg("circle", { class: "target", ...centre, r: 9 }), svg("circle", { class: "dot", ...centre, r: 3 }));
    point.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      event.preventDefault();
      go(href);
    });
    for (const event of ["focus", "mouseenter"]) point.addEventListener(event, () => (band.classList.add("lit"), told(row)));
    for (const event of ["blur", "mouseleave"]) point.addEventListener(event, () => (band.classList.remove("lit"), told(null)));
    return point;
  });
  const drawn = svg("g", { class: "line" }, svg("path", { class: "course", d: `M${rows.map((row) => at(row, row.share)).join("L")}` }), ...points);
  paint(band, line);
  paint(drawn, line);
  return { band, line: drawn, points };
}

function axes(lines: readonly Line[], { top, starts }: Scale, right: number, x: (row: Row) => number, y: (share: number) => number): SVGElement[] {
  const step = STEPS.find((each) => top / each <= 4.001) ?? 0.5;
  const grid: SVGElement[] = [];
  for (let share = 0; share <= top + 1e-9; share += step) {
    grid.push(
      svg("path", { class: share ? "grid" : "base", d: `M${LEFT} ${y(share).toFixed(1)}H${WIDTH - right}` }),
      text("share", LEFT - 6, y(share) + 3.5, `${Math.round(share * 100)}%`),
    );
  }
  // beneath each period that is named, of how many calls its shares are
  const periods = new Map<string, Row[]>();
  for (const row of new Map(lines.flatMap(({ rows }) => rows).map((each) => [`${each.period} ${each.group}`, each])).values()) {
    periods.set(row.start!, [...(periods.get(row.start!) ?? []), row]);
  }
  const every = Math.ceil(starts.length / TICKS);
  const ticks = starts
    .filter((start, at) => at % every === 0 && periods.has(start))
    .flatMap((start) => {
      const rows = periods.get(start)!;
      const calls = rows.reduce((sum, row) => sum + row.of_recordings, 0);
      return [
        text("tick", x(rows[0]!), HEIGHT - BOTTOM + 15, rows[0]!.period!),
        text("tick calls", x(rows[0]!), HEIGHT - BOTTOM + 28, t(calls === 1 ? "trends.call" : "trends.calls", { n: count(calls) })),
      ];
    });
  return [svg("g", { class: "axes", "aria-hidden": "true" }, ...grid, ...ticks)];
}

function text(name: string, x: number, y: number, said: string): SVGElement {
  return svg("text", { class: name, x: x.toFixed(1), y: y.toFixed(1) }, document.createTextNode(said));
}

/** The lines' names at their ends, apart from each other. */
function names(lines: readonly Line[], y: (share: number) => number): SVGElement[] {
  const ends = lines.map((line) => ({ line, at: y(line.rows.at(-1)!.share) + 3.5 })).sort((a, b) => a.at - b.at);
  ends.forEach((end, at) => (end.at = Math.max(end.at, at ? ends[at - 1]!.at + LINE_PX : TOP)));
  const over = (ends.at(-1)?.at ?? 0) - (HEIGHT - BOTTOM + 4);
  if (over > 0) for (let at = ends.length - 1, limit = HEIGHT - BOTTOM + 4; at >= 0 && ends[at]!.at > limit; at--, limit -= LINE_PX) ends[at]!.at = limit;
  const made = ends.map(({ line, at }) => {
    const short = line.name.length > LETTERS ? `${line.name.slice(0, LETTERS - 1)}…` : line.name;
    const group = svg("g", { class: "name" }, svg("circle", { class: "swatch", cx: WIDTH - NAMES + 8, cy: (at - 3.5).toFixed(1), r: 3.5 }), text("", WIDTH - NAMES + 15, at, short));
    paint(group, line);
    return group;
  });
  return [svg("g", { "aria-hidden": "true" }, ...made)];
}

/** Arrow keys go from point to point: Tab stops at a panel once. */
function walk(picture: SVGElement, lines: readonly SVGElement[][]): void {
  lines[0]?.at(-1)?.setAttribute("tabindex", "0");
  picture.addEventListener("keydown", (event) => {
    const line = lines.findIndex((points) => points.includes(document.activeElement as SVGElement));
    if (line < 0) return;
    const at = lines[line]!.indexOf(document.activeElement as SVGElement);
    const to = { ArrowLeft: [line, at - 1], ArrowRight: [line, at + 1], ArrowUp: [line - 1, at], ArrowDown: [line + 1, at] }[event.key];
    if (!to) return;
    event.preventDefault();
    const points = lines[to[0]!];
    const next = points?.[Math.min(to[1]!, to[0] === line ? to[1]! : points.length - 1)];
    if (!next) return;
    document.activeElement?.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
}

/** A bar for each value or group of all times at once: a link with its figures. */
export function bars(trends: Trends, lines: readonly Line[], top: number): HTMLElement {
  const part = (name: string, from: number, width: number): HTMLElement => {
    const element = h("span", { class: name });
    element.style.left = `${(100 * from) / top}%`;
    element.style.width = `${(100 * width) / top}%`;
    return element;
  };
  const rows = lines.flatMap((line) =>
    line.rows.map((row) => {
      const link = h(
        "a",
        { href: addressOf("calls", { search: { where: row.where } }), title: sayRow(trends, row) },
        h("span", { class: "swatch", "aria-hidden": "true" }),
        h("span", { class: "name" }, line.name),
        h("span", { class: "track", "aria-hidden": "true" }, part("share", 0, row.share), part("range", row.low, row.high - row.low)),
        h("span", { class: "figure" }, `${Math.round(100 * row.share)}%`),
        h("small", { class: "quiet" }, t("trends.bar", { segments: count(row.segments), calls: count(row.recordings) }), ` · ${interval(row)}%`),
      );
      paint(link, line);
      return h("li", {}, link);
    }),
  );
  return h("ul", { class: "bars" }, ...rows);
}
