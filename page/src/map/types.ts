// What the API says of a map, as far as the view reads it.

export interface MapSummary {
  name: string;
  by: "segment" | "recording";
  points: number;
  clusters: number;
}

interface Proportion {
  name: string;
  share: number;
  lift: number;
}

export interface Cluster {
  number: number;
  name: string;
  size: number;
  share: number;
  recordings: number;
  x: number;
  y: number;
  emotions: Proportion[];
  labels: Proportion[];
  metadata: { key: string; value: string; recordings: number; expected: number }[];
  segments: { segment: string; name: string; start_s: number; end_s: number; text: string | null }[];
}

export interface MapView {
  name: string;
  by: "segment" | "recording";
  where: string | null;
  created_at: string;
  points: number;
  none: number;
  unplaced: number;
  clusters: Cluster[];
  left_out: string[]; // metadata keys that name employees
}
