// What the HTTP API answers, as far as the page reads it. The truth is the service's OpenAPI document.

export type By = "recording" | "segment";

export interface Hit {
  score: number;
  recording: string; // "call:45"
  segment: string; // "seg:123"
  name: string;
  uri: string;
  channel: number;
  start_s: number;
  end_s: number;
  segment_score: number;
  emotion: string | null; // a class, "unsure" or "too short"; null where the encoder has no classes
  emotion_score: number | null; // null where no class is named
  arousal: number | null; // 0 calm to 1 excited
  valence: number | null; // 0 unpleasant to 1 pleasant
  metadata: Record<string, string>;
  scores: Record<string, number>;
  text: string | null;
  label: string | null;
  label_score: number | null; // 1 where a person gave the label
  percentile: number | null; // with `explain`
  why: Explanation | null; // with `explain`
}

export interface Match {
  reference: string; // "seg:12", a file's name, "emotion:angry"
  reference_start_s: number | null; // null: a name or vector, which is at no time
  start_s: number;
  end_s: number;
  cosine: number;
}

export interface Explanation {
  matches: Match[];
  shared: { emotion: string; reference: number; segment: number }[];
}

export interface QueryResult {
  hits: Hit[];
  searched: number;
  total: number;
  exact: boolean;
  seconds: number;
  references: string[];
  where: string | null;
  text: string | null;
}

export interface Segment {
  id: string;
  recording: string;
  channel: number;
  start_s: number;
  end_s: number;
  emotion: string | null;
  emotion_score: number | null;
  arousal: number | null;
  valence: number | null;
  scores: Record<string, number>;
  text: string | null;
}

export interface Recording {
  id: string;
  name: string;
  recorded_at: string; // ISO 8601
  duration_s: number;
}

export interface Filters {
  fields: string[];
  metadata: Record<string, string[]>;
  emotions: string[];
  labels: string[];
}

export interface Status {
  counts: { recordings: number; segments: number; speech_s: number };
}
