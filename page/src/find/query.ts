// What is searched for, among what: as a request, as a filter's text, and as the page's address.
import { request, sendJson } from "../api";
import { addressOf as placeOf } from "../router";
import type { By, Filters, QueryResult } from "../types";

export interface Query {
  references: string[]; // ids, emotions, labels; empty with a clip, or before anything is searched for
  clip: number | null; // the number of a clip that this page holds
  by: By;
  k: number;
  explain: boolean; // say why each hit is one
  emotion: string;
  label: string;
  course: string; // of the call: "worsening" …
  channel: string;
  from: string; // 2024-03-01
  to: string;
  call: string; // part of the call's name
  metadata: Record<string, string>;
  text: string; // words said
  where: string; // a filter as the reader wrote it
}

export const NOTHING: Query = {
  references: [],
  clip: null,
  by: "recording",
  k: 20,
  explain: false,
  emotion: "",
  label: "",
  course: "",
  channel: "",
  from: "",
  to: "",
  call: "",
  metadata: {},
  text: "",
  where: "",
};

const WORDS = ["emotion", "label", "course", "channel", "from", "to", "call", "text", "where"] as const;
const META = "meta.";

/** What the course of a call may be. */
export const COURSES = ["worsening", "improving", "steady", "mixed"] as const;

/** How many filters are on. */
export function filtersOn(query: Query): number {
  return WORDS.filter((word) => query[word]).length + Object.values(query.metadata).filter(Boolean).length;
}

/** The same query without its filters; how many hits, of what kind and with what reasons, stays. */
export function withoutFilters(query: Query): Query {
  const { references, clip, by, k, explain } = query;
  return { ...NOTHING, references, clip, by, k, explain };
}

// ------------------------------------------------------------------------------------------------ filter's text

/** The `where` of the request, null where nothing is filtered. */
export function whereOf(query: Query, fields: readonly string[]): string | null {
  const parts = [
    query.emotion && `emotion = ${quoted(query.emotion)}`,
    query.label && `label = ${quoted(query.label)}`,
    query.course && `course = ${quoted(query.course)}`,
    query.channel && `channel = ${Number(query.channel)}`,
    query.from && `date >= ${query.from}`,
    query.to && `date <= ${query.to}`,
    query.call && `name like ${quoted(`%${query.call}%`)}`,
    ...Object.entries(query.metadata).map(([key, value]) => value && compared(nameOf(key, fields), value)),
    query.where.trim(),
  ].filter(Boolean);
  if (parts.length < 2 || !query.where.trim()) return parts.join(" and ") || null;
  return `${parts.slice(0, -1).join(" and ")} and (${parts.at(-1)})`; // its own "or" stays its own
}

function compared(name: string, value: string): string {
  return `${name} = ${quoted(value)}`;
}

function quoted(value: string): string {
  return `"${value.replaceAll('"', '""')}"`; // a doubled quote stands for one
}

const PLAIN_NAME = /^(?!(?:and|or|not|in|like|between|is|null)$)[a-z_]\w*(?:[.:-]\w+)*$/i;

/** A metadata key as filters name it: one that a field of the catalog hides is reached through `meta.`. */
function nameOf(key: string, fields: readonly string[]): string {
  const name = fields.includes(key) ? META + key : key;
  return PLAIN_NAME.test(name) ? name : `\`${name}\``;
}

// -------------------------------------------------------------------------------------------------- references

/** What the reader typed, as references: `angry` is an emotion's name where the collection has one so called. */
export function referencesOf(typed: string, filters: Filters | null): string[] {
  return typed
    .split(/[,，、]/)
    .map((each) => each.trim())
    .filter(Boolean)
    .map((each) => {
      if (filters?.emotions.includes(each)) return `emotion:${each}`;
      return filters?.labels.includes(each) ? `label:${each}` : each;
    });
}

// ----------------------------------------------------------------------------------------------------- address

/** `?ref=seg:12&emotion=angry`: what can be sent to a colleague. A clip stays in this page. */
export function addressOf(query: Query): string {
  return placeOf("find", { search: searchOf(query) });
}

export function searchOf(query: Query): URLSearchParams {
  const found = new URLSearchParams();
  for (const reference of query.references) found.append("ref", reference);
  if (query.by !== NOTHING.by) found.set("by", query.by);
  if (query.k !== NOTHING.k) found.set("k", String(query.k));
  if (query.explain) found.set("explain", "true");
  for (const word of WORDS) if (query[word]) found.set(word, query[word]);
  for (const [key, value] of Object.entries(query.metadata)) if (value) found.set(META + key, value);
  return found;
}

/** The numbers of the segments that were found, as an address names them: `12,7`. */
export function segmentsFound(answer: QueryResult): string {
  return answer.hits.map((hit) => hit.segment.replace("seg:", "")).join(",");
}

export function queryAt(search: URLSearchParams | string, clip: number | null): Query {
  const found = new URLSearchParams(search);
  const query: Query = { ...NOTHING, references: found.getAll("ref"), clip, metadata: {} };
  if (found.get("by") === "segment") query.by = "segment";
  query.k = Number(found.get("k")) || NOTHING.k;
  query.explain = found.get("explain") === "true";
  for (const word of WORDS) query[word] = found.get(word) ?? "";
  for (const [name, value] of found) if (name.startsWith(META)) query.metadata[name.slice(META.length)] = value;
  return query;
}

// ----------------------------------------------------------------------------------------------------- request

/** Asks the service; a clip goes along as a file. */
export async function ask(
  query: Query,
  clip: File | null,
  fields: readonly string[],
  signal: AbortSignal,
): Promise<QueryResult> {
  const where = whereOf(query, fields);
  const { by, k, explain, references } = query;
  const text = query.text.trim() || null;
  if (clip === null) return sendJson("POST", "query", { references, by, k, where, text, explain }, signal);
  const form = new FormData();
  form.set("file", clip);
  form.set("by", by);
  form.set("k", String(k));
  form.set("explain", String(explain));
  if (where) form.set("where", where);
  if (text) form.set("text", text);
  const response = await request("query/upload", { method: "POST", body: form, signal });
  return response.json() as Promise<QueryResult>;
}
