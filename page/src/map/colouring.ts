// What points are coloured by: emotion, cluster, label, or a key of the metadata.
import { emotionName } from "../language";
import { fetchValues, type Points } from "./points";
import { t } from "./words";

const CATEGORIES = 12;

export interface Colouring {
  codes: Uint8Array; // of each point, an index into `values`
  values: { name: string; colour: string; count: number }[];
}

/** The colouring by "emotion", "cluster", "label" or `meta:KEY`. */
export async function colouringBy(by: string, points: Points, clusterNames: ReadonlyMap<number, string>): Promise<Colouring> {
  if (by === "emotion") return coded(points.emotion, points.emotions, emotionName, (name) => css(`--emotion-${of(name)}`));
  if (by === "label") return coded(points.label, points.labels, String, (_, at) => category(at));
  if (by === "cluster") return byCluster(points, clusterNames);
  const { values, codes } = await fetchValues(points.name, by.replace(/^meta:/, ""));
  const shown = values.slice(0, CATEGORIES);
  const bytes = Uint8Array.from(codes, (code) => (code < 0 || code >= CATEGORIES ? 255 : code));
  return coded(bytes, shown, String, (_, at) => category(at), t(values.length > CATEGORIES ? "map.rest" : "map.none"));
}

function coded(
  bytes: Uint8Array,
  names: readonly string[],
  say: (name: string) => string,
  colour: (name: string, at: number) => string,
  rest = t("map.none"),
): Colouring {
  const values = names.slice(0, 255).map((name, at) => ({ name: say(name), colour: colour(name, at), count: 0 }));
  values.push({ name: rest, colour: css("--no-category"), count: 0 });
  const last = values.length - 1;
  return counted(Uint8Array.from(bytes, (code) => (code < last ? code : last)), values);
}

function byCluster(points: Points, names: ReadonlyMap<number, string>): Colouring {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches ? 1 : 0;
  const numbers = [...names.keys()].slice(0, 254);
  const place = new Map(numbers.map((number, at) => [number, at]));
  const values = numbers.map((number) => ({
    name: names.get(number) ?? String(number),
    colour: points.colours[number]?.[dark] ?? css("--no-category"),
    count: 0,
  }));
  values.push({ name: t("map.noCluster"), colour: css("--no-category"), count: 0 });
  return counted(Uint8Array.from(points.cluster, (number) => place.get(number) ?? numbers.length), values);
}

function counted(codes: Uint8Array, values: Colouring["values"]): Colouring {
  for (const code of codes) values[code]!.count++;
  return { codes, values };
}

function category(at: number): string {
  return css(`--category-${at % CATEGORIES}`);
}

/** An emotion's name in the palette's properties; that of a class which the palette does not name is "other". */
function of(emotion: string): string {
  const name = emotion.replaceAll(" ", "-");
  return css(`--emotion-${name}`) ? name : "other";
}

export function css(property: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim();
}

/** `#rrggbb` as [red, green, blue, alpha]. */
export function channels(colour: string, alpha: number): number[] {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)).concat(alpha);
}
