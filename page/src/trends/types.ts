// What /trends answers.

export type By = "day" | "week" | "month" | "none";
export type Of = "emotion" | "label" | "cluster";

export interface Row {
  period: string | null; // "2026-W47"
  start: string | null; // its first day
  group: string | null;
  value: string;
  share: number;
  low: number;
  high: number;
  segments: number;
  of_segments: number;
  recordings: number;
  of_recordings: number;
  where: string;
}

export interface Trends {
  by: Exclude<By, "none"> | null;
  of: Of;
  group: string | null;
  where: string | null;
  map: string | null;
  rows: Row[];
}

/** What a panel stands for, and what its lines or bars do. */
export type Facet = "group" | "value";
