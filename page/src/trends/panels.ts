// Rows put into panels, and these into lines: one for each value, or one for each group.
import { emotionName } from "../language";
import type { Facet, Row, Trends } from "./types";
import { t } from "./words";

export interface Line {
  key: string; // by which it is shown or not
  name: string;
  emotion: string | null; // whose colour it has
  category: number; // the colour where it is no emotion
  rows: Row[];
}

export interface Panel {
  name: string;
  emotion: string | null;
  lines: Line[];
  recordings: number;
  segments: number;
}

export const LINES = 6; // shown at first: those of the most common
const CATEGORIES = 12; // as in palette.css

/** Whether panels are groups, as far as there are any. */
export function facetOf(trends: Trends, wanted: Facet): Facet {
  if (trends.group === null) return trends.by === null ? "group" : "value";
  return wanted;
}

export function valuesOf(rows: readonly Row[]): string[] {
  return [...new Set(rows.map(({ value }) => value))];
}

export function groupsOf(rows: readonly Row[]): (string | null)[] {
  return [...new Set(rows.map(({ group }) => group))];
}

export function nameOfValue(of: Trends["of"], value: string): string {
  return of === "emotion" ? emotionName(value) : value;
}

export function nameOfGroup(by: string | null, group: string | null): string {
  if (by === null) return t("trends.all");
  if (group === null) return t("trends.none");
  return by === "channel" ? t("hit.channel", { n: group }) : group;
}

/** All panels with all of their lines, in the order of the answer. */
export function panelsOf(trends: Trends, facet: Facet): Panel[] {
  const values = valuesOf(trends.rows);
  const groups = groupsOf(trends.rows);
  const line = (value: string, group: string | null): Line => ({
    key: facet === "group" ? `=${value}` : group === null ? "" : `=${group}`,
    name: facet === "group" ? nameOfValue(trends.of, value) : nameOfGroup(trends.group, group),
    emotion: trends.of === "emotion" && (facet === "group" || trends.group === null) ? value : null,
    category: facet === "group" || trends.group === null ? values.indexOf(value) : groups.indexOf(group),
    rows: trends.rows.filter((row) => row.value === value && row.group === group),
  });
  const panel = (name: string, emotion: string | null, lines: Line[]): Panel => {
    const cells = new Map(lines.flatMap(({ rows }) => rows).map((row) => [`${row.period} ${row.group}`, row]));
    const sum = (of: "of_recordings" | "of_segments"): number => [...cells.values()].reduce((all, row) => all + row[of], 0);
    return { name, emotion, lines: lines.filter(({ rows }) => rows.length), recordings: sum("of_recordings"), segments: sum("of_segments") };
  };
  if (facet === "group") return groups.map((group) => panel(nameOfGroup(trends.group, group), null, values.map((value) => line(value, group))));
  return values.map((value) => panel(nameOfValue(trends.of, value), trends.of === "emotion" ? value : null, groups.map((group) => line(value, group))));
}

/** What the lines of all panels are, each once. */
export function keysOf(panels: readonly Panel[]): Line[] {
  const found = new Map<string, Line>();
  for (const line of panels.flatMap(({ lines }) => lines)) if (!found.has(line.key)) found.set(line.key, line);
  return [...found.values()].sort((a, b) => a.category - b.category);
}

/** Gives an element the colour of a line. */
export function paint(element: Element & ElementCSSInlineStyle, { emotion, category }: Pick<Line, "emotion" | "category">): void {
  if (emotion !== null) element.setAttribute("data-emotion", emotion);
  else element.style.setProperty("--emotion", category < CATEGORIES ? `var(--category-${category})` : "var(--no-category)");
}
