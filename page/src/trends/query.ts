// What is asked for, as the page's address has it.
import { addressOf } from "../router";
import type { By, Facet, Of } from "./types";

export interface Query {
  by: By;
  of: Of;
  group: string; // "": recordings are not grouped
  map: string; // of clusters; "": the default
  where: string;
  panels: Facet;
}

export const PERIODS: readonly By[] = ["day", "week", "month", "none"];
export const KINDS: readonly Of[] = ["emotion", "label", "cluster"];

const USUAL: Query = { by: "week", of: "emotion", group: "", map: "", where: "", panels: "group" };

export function queryAt(search: URLSearchParams): Query {
  const one = <T extends string>(name: "by" | "of", known: readonly T[], usual: T): T => known.find((each) => each === search.get(name)) ?? usual;
  return {
    by: one("by", PERIODS, USUAL.by),
    of: one("of", KINDS, USUAL.of),
    group: search.get("group") ?? "",
    map: search.get("map") ?? "",
    where: search.get("where")?.trim() ?? "",
    panels: search.get("panels") === "value" ? "value" : "group",
  };
}

export function placeOf(query: Query): string {
  const names = Object.keys(USUAL) as (keyof Query)[];
  return addressOf("trends", { search: names.filter((name) => query[name] !== USUAL[name]).map((name) => [name, query[name]]) });
}

/** The path of the API that answers it. */
export function pathOf({ by, of, group, map, where }: Query): string {
  const search = new URLSearchParams({ by, of });
  if (group) search.set("group", group);
  if (map && of === "cluster") search.set("map", map);
  if (where) search.set("where", where);
  return `trends?${search}`;
}
