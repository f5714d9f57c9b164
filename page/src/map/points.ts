// A map's points as the service packs them: a header in JSON, then a column of numbers each.
import { request } from "../api";

type Column = Uint8Array | Int16Array | Int32Array | Uint32Array | Float32Array | Float64Array;

const ARRAYS: Record<string, new (buffer: ArrayBuffer, at: number, length: number) => Column> = {
  u1: Uint8Array,
  i2: Int16Array,
  i4: Int32Array,
  u4: Uint32Array,
  f4: Float32Array,
  f8: Float64Array,
};

interface Header {
  points: number;
  columns: { name: string; type: string; scale: number }[];
}

interface PointsHeader extends Header {
  name: string;
  by: "segment" | "recording";
  absent: number; // in a column of bytes: none
  emotions: string[];
  labels: string[];
  colours: Record<string, [light: string, dark: string]>; // of clusters, by number; "-1" of points in none
}

/** The points of a map, ids ascending; each array has one value a point. */
export interface Points extends PointsHeader {
  ids: ArrayLike<number>;
  recordings: ArrayLike<number>;
  xy: Int16Array; // x, y, x, y …, 32767 is 1.0
  cluster: Int16Array;
  start_s: Float32Array;
  end_s: Float32Array;
  channel: Uint8Array;
  emotion: Uint8Array;
  emotion_score: Uint8Array; // hundredths
  label: Uint8Array;
}

export const AXIS = 32767;

export async function fetchPoints(map: string, signal: AbortSignal): Promise<Points> {
  const { header, columns } = unpack<PointsHeader>(await (await request(`map/${encodeURIComponent(map)}/columns`, { signal })).arrayBuffer());
  const [x, y] = [columns["x"] as Int16Array, columns["y"] as Int16Array];
  const xy = new Int16Array(2 * header.points);
  for (let at = 0; at < header.points; at++) {
    xy[2 * at] = x[at]!;
    xy[2 * at + 1] = y[at]!;
  }
  const bytes = (name: string): Uint8Array => columns[name] as Uint8Array;
  return {
    ...header,
    ids: columns["id"]!,
    recordings: columns["recording"]!,
    xy,
    cluster: columns["cluster"] as Int16Array,
    start_s: columns["start_s"] as Float32Array,
    end_s: columns["end_s"] as Float32Array,
    channel: bytes("channel"),
    emotion: bytes("emotion"),
    emotion_score: bytes("emotion_score"),
    label: bytes("label"),
  };
}

/** The value of a metadata key, or "name", for each point: an index into `values`, -1 for none. */
export async function fetchValues(map: string, key: string): Promise<{ values: string[]; codes: Int32Array }> {
  const path = `map/${encodeURIComponent(map)}/columns/${encodeURIComponent(key)}`;
  const { header, columns } = unpack<Header & { values: string[] }>(await (await request(path)).arrayBuffer());
  return { values: header.values, codes: columns["value"] as Int32Array };
}

function unpack<H extends Header>(buffer: ArrayBuffer): { header: H; columns: Record<string, Column> } {
  const size = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size))) as H;
  const columns: Record<string, Column> = {};
  let at = 4 + size;
  for (const { name, type } of header.columns) {
    const column = new ARRAYS[type]!(buffer, at, header.points);
    columns[name] = column;
    at += Math.ceil(column.byteLength / 8) * 8;
  }
  return { header, columns };
}
