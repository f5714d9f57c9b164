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
  recordings: number; // of a group, or with the value
  segments: number;
}

const VALUES = 4; // lines that are shown at first where each is a value: with more, their bands are a fog
const GROUPS = 6;
const NAMELESS = ["unsure", "too short"];
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
    const rows = lines.flatMap((each) => each.rows);
    const cells = facet === "value" ? rows : [...new Map(rows.map((row) => [row.period, row])).values()];
    const sum = (of: keyof Row): number => cells.reduce((all, row) => all + Number(row[of]), 0);
    const [recordings, segments] = facet === "value" ? [sum("recordings"), sum("segments")] : [sum("of_recordings"), sum("of_segments")];
    return { name, emotion, lines: lines.filter((each) => each.rows.length), recordings, segments };
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

/** The lines that are put out until the reader asks for them: rarer ones, and where no emotion is named. */
export function hiddenAtFirst(keys: readonly Line[], facet: Facet): string[] {
  const named = keys.filter(({ emotion }) => emotion === null || !NAMELESS.includes(emotion));
  const shown = (named.length ? named : keys).slice(0, facet === "group" ? VALUES : GROUPS);
  return keys.filter((line) => !shown.includes(line)).map(({ key }) => key);
}

/** Gives an element the colour of a line. */
export function paint(element: Element & ElementCSSInlineStyle, { emotion, category }: Pick<Line, "emotion" | "category">): void {
  if (emotion !== null) element.setAttribute("data-emotion", emotion);
  else element.style.setProperty("--emotion", category < CATEGORIES ? `var(--category-${category})` : "var(--no-category)");
}
